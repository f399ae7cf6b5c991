"""What tells one run from another: settings as plain values, and where two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from torch import Tensor, nn

from medseg_fast.data import PatchSampler


def described(value: Any) -> Any:
    """A setting as numbers, texts, lists and dicts, without addresses in memory.

    Modules, and objects of this package, are their public attributes; other objects, and functions,
    are names.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(key): described(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [described(each) for each in value]
    if isinstance(value, partial):
        return described({"of": value.func, "arguments": value.args, **value.keywords})
    kind = getattr(value, "__qualname__", type(value).__qualname__)
    if isinstance(value, nn.Module) or type(value).__module__.startswith("medseg_fast."):
        return described({"kind": kind, **_parts(value)})
    return kind


def _parts(value: Any) -> dict[str, Any]:
    """Public attributes, and a module's buffers and children; of a sampler's cases the number."""
    parts = {name: each for name, each in vars(value).items() if not name.startswith("_")}
    if isinstance(value, PatchSampler):
        parts["cases"] = len(value.cases)
    if isinstance(value, nn.Module):
        del parts["training"]
        parts |= {**dict(value.named_buffers(recurse=False)), **dict(value.named_children())}
    return parts


def difference(one: Any, other: Any, name: str = "") -> tuple[str, Any, Any] | None:
    """The first value in which two descriptions differ: its name, and both of it."""
    if one == other:
        return None
    if isinstance(one, dict) and isinstance(other, dict):
        pairs = [(key, one.get(key), other.get(key)) for key in {**one, **other}]
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = [(str(place), *both) for place, both in enumerate(zip(one, other, strict=True))]
    else:
        return name, one, other
    found = (difference(a, b, f"{name}.{key}" if name else key) for key, a, b in pairs)
    return next(each for each in found if each is not None)
