"""From a function's signature to an operator's schema, and from a call's arguments to a literal."""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import torch

# The schema type of an annotation; "?" is added for "| None".
_TYPES = {
    "ArrayLike": "Tensor",
    "float": "Scalar",  # keeps an integer an integer
    "int": "int",
    "bool": "bool",
    "str": "str",
    "Sequence[int]": "int[]",
    "tuple[int, ...]": "int[]",
    "Sequence[float]": "float[]",
    "tuple[float, ...]": "float[]",
}
_FITS: dict[str, Callable[[Any], bool]] = {
    "Tensor": lambda v: isinstance(v, torch.Tensor),
    "Scalar": lambda v: isinstance(v, (int, float)),
    "int": lambda v: isinstance(v, int) and not isinstance(v, bool),
    "bool": lambda v: isinstance(v, bool),
    "str": lambda v: isinstance(v, str),
    "int[]": lambda v: isinstance(v, (tuple, list)) and all(isinstance(x, int) for x in v),
    "float[]": lambda v: isinstance(v, (tuple, list)) and all(isinstance(x, float) for x in v),
}


class Parameter(NamedTuple):
    """One parameter of a public function."""

    name: str
    type: str | None  # in the schema language; None: only a literal can say its values
    optional: bool
    default: Any  # inspect.Parameter.empty if there is none
    keyword_only: bool
    arrays: bool  # takes them, alone or in a sequence

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty

    def fits(self, value: Any) -> bool:
        """Whether the typed schema can carry the value."""
        if value is None:
            return self.optional
        return self.type is not None and _FITS[self.type](value)


def parameters(signature: inspect.Signature) -> list[Parameter]:
    """The parameters, with the schema types of their annotations."""
    found = []
    for p in signature.parameters.values():
        annotation = str(p.annotation)
        arrays = "ArrayLike" in annotation or "NDArray" in annotation
        kind = annotation.removesuffix(" | None")
        if kind.startswith("NDArray["):
            kind = "ArrayLike"
        elif kind.startswith("Literal["):
            kind = "str"
        found.append(
            Parameter(
                p.name,
                _TYPES.get(kind),
                kind != annotation,
                p.default,
                p.kind is p.KEYWORD_ONLY,
                arrays,
            )
        )
    return found


def schema(parameters: list[Parameter]) -> str | None:
    """Arguments of an operator with these parameters, None if the schema language has no words.

    Keyword-only parameters become positional: torch differentiates no keyword-only tensor.
    """
    parts: list[str] = []
    for p in parameters:
        if p.type is None:
            return None
        text = f"{p.type}{'?' if p.optional else ''} {p.name}"
        if not p.required:
            default = None if p.type == "Tensor" and p.default is not None else _default(p.default)
            if default is None:
                return None
            text += f"={default}"
        if p.required and "=" in "".join(parts):
            return None  # a required keyword after a default
        parts.append(text)
    return ", ".join(parts)


def _default(value: Any) -> str | None:
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    return str(list(value)) if isinstance(value, tuple) else None


def to_literal(value: Any, tensors: list[torch.Tensor]) -> str | None:
    """The value as a Python literal with ``...`` for each tensor, None if it cannot be said so.

    The tensors are appended to the list. torch.compile traces this function.
    """
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return "..."
    if isinstance(value, float) and value != value:
        return None
    if isinstance(value, float):  # NumPy's, too, which is written otherwise
        # Python reads 1e999 as infinity, but has no literal of that name.
        return repr(float(value)).replace("inf", "1e999")
    if isinstance(value, str):
        return repr(str(value))
    if value is None or isinstance(value, (bool, int)):
        return repr(value)
    if isinstance(value, (tuple, list)):
        parts = [to_literal(v, tensors) for v in value]
        opening, closing = "(", ")"
    elif isinstance(value, dict):
        opening, closing = "{", "}"
        parts = []
        for key, v in value.items():
            part = to_literal(v, tensors)
            parts.append(None if part is None else f"{key!r}: {part}")
    else:
        return None
    if None in parts:
        return None
    return opening + "".join([f"{part}," for part in parts]) + closing


def from_literal(text: str, tensors: list[torch.Tensor]) -> Any:
    """What `to_literal` was given; lists come back as tuples."""
    return _put_back(_parsed(text), iter(tensors))


def _put_back(value: Any, tensors: Iterator[torch.Tensor]) -> Any:
    if value is ...:
        return next(tensors)
    if isinstance(value, dict):
        return {key: _put_back(v, tensors) for key, v in value.items()}
    return tuple(_put_back(v, tensors) for v in value) if isinstance(value, tuple) else value


@lru_cache(1024)
def _parsed(text: str) -> Any:
    return ast.literal_eval(text)
