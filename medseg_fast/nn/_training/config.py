"""Configurations of training: TOML files, whose keys, kinds and defaults are in one table.

Needs no PyTorch: `medseg-fast plan` writes such files, `medseg-fast train` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple

from medseg_fast.nn._intensities import WORDS

LOSSES = {
    "cross_entropy": "CrossEntropyLoss",
    "dice": "DiceLoss",
    "jaccard": "JaccardLoss",
    "focal": "FocalLoss",
    "tversky": "TverskyLoss",
    "boundary": "BoundaryLoss",
    "lovasz": "LovaszLoss",
    "structured": "StructuredLoss",
}
TARGETS = ("classes", "mask", "instances", "objects")


class Key(NamedTuple):
    """A key of a table: whether it must be there, its default, and what is allowed."""

    default: Any
    allowed: str
    check: Callable[[Any], bool]
    required: bool = False


def _whole(value: Any, least: int = 1) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _real(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _list(value: Any, each: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and bool(value) and all(map(each, value))


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _count(default: int | None, least: int = 1) -> Key:
    return Key(default, f"a whole number from {least}", lambda v: _whole(v, least))


def _number(default: float | None, low: float, high: float = math.inf, words: str = "") -> Key:
    wanted = words or (f"a number above {low:g}" if high == math.inf else "")
    return Key(
        default,
        wanted or f"a number above {low:g} and below {high:g}",
        lambda v: _real(v) and low < v < high,
    )


def _choice(default: str | None, names: Sequence[str]) -> Key:
    return Key(default, "one of " + ", ".join(f'"{n}"' for n in names), lambda v: v in names)


def _texts(default: Any = ()) -> Key:
    words = "a list of texts"
    return Key(default, words, lambda v: isinstance(v, list) and all(map(_text, v)))


def _normalised(value: Any) -> bool:
    if isinstance(value, str):
        return value in WORDS
    return _list(value, _real) and len(value) == 2 and value[0] < value[1]


def _held(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_text, value))
    return _real(value) and 0 <= value < 1


_SIZES = Key(
    None,
    "a whole number from 1, or a list of them, one per axis",
    lambda v: _whole(v) or _list(v, _whole),
)

TABLES: dict[str, dict[str, Key]] = {
    "data": {
        "images": Key(
            None,
            "a folder, or a list of folders, one for each channel",
            lambda v: _text(v) or _list(v, _text),
            required=True,
        ),
        "labels": Key(None, "a folder", _text, required=True),
        "target": _choice("classes", TARGETS),
        "normalise": Key(
            "zscore", '"zscore", "robust", "none" or [low, high] with low < high', _normalised
        ),
        "spacing": Key(
            None,
            "a list of numbers above 0 (mm), one per axis",
            lambda v: _list(v, _real) and min(v) > 0,
        ),
        "unit": _choice("mm", ("mm", "pixel")),
        "exclude": _texts([]),
        "test": _texts([]),
        "validation": Key(0.2, "a part from 0 to below 1, or a list of patterns of names", _held),
        "keep": Key(1.0, "a part above 0, up to 1", lambda v: _real(v) and 0 < v <= 1),
        "patient": Key(None, "a regular expression", _text),
        "folds": _count(None, 2),
    },
    "network": {"name": Key("unet", "a network of medseg_fast.nn", _text)},
    "training": {
        "steps": _count(None),
        "epochs": _count(None),
        "batch": _count(2),
        "patch": _SIZES,
        "foreground": Key(0.5, "a part from 0 to 1", lambda v: _real(v) and 0 <= v <= 1),
        "optimiser": _choice("adamw", ("adamw", "sgd")),
        "rate": _number(1e-3, 0),
        "weight_decay": Key(1e-2, "a number from 0", lambda v: _real(v) and v >= 0),
        "schedule": _choice("cosine", ("poly", "cosine", "one-cycle", "constant")),
        "warmup": _count(0, 0),
        "clip": _number(1.0, 0),
        "average": _number(None, 0, 1),
        "precision": _choice("float32", ("float32", "bfloat16")),
        "every": _count(None),
        "patience": _count(None),
        "checkpoint_every": _count(None),
        "seed": _count(0, 0),
        "freeze": _texts([]),
        "start": Key(None, "a file of weights", _text),
        "pretrain_steps": _count(0, 0),
    },
    "loss": {
        name: Key(None, "a weight: a number above 0", lambda v: _real(v) and v > 0)
        for name in LOSSES
    },
    "rates": {},  # patterns of parameters' names
    "augment": {},  # what Augmenter takes
    "predict": {
        "overlap": Key(0.5, "a part from 0 to below 1", lambda v: _real(v) and 0 <= v < 1),
        "mirror": Key(
            False,
            "true, false, or a list of axes",
            lambda v: isinstance(v, bool) or _list(v, lambda a: _whole(a, 0)),
        ),
    },
}
# Tables whose further keys are checked by what they are for.
_OPEN = ("network", "rates", "augment")


@dataclass(frozen=True)
class Config:
    """A configuration, checked, with its defaults filled in."""

    path: Path
    tables: Mapping[str, Mapping[str, Any]]
    base: Path  # paths in the file begin here

    def __getitem__(self, table: str) -> Mapping[str, Any]:
        return self.tables[table]

    def place(self, name: str) -> Path:
        """A path as written in the file."""
        return (self.base / Path(name).expanduser()).absolute()


def recipes() -> dict[str, Path]:
    """The configurations that come with the package, by name."""
    folder = Path(__file__).parents[1] / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def find(name: Path) -> Path:
    """A file, or the recipe of that name."""
    if name.exists() or name.suffix or len(name.parts) > 1:
        return name
    known = recipes()
    if str(name) not in known:
        raise FileNotFoundError(f"{name}: no such file; recipes are {', '.join(known)}")
    return known[str(name)]


def read(path: Path, base: Path | None = None) -> Config:
    """Read and check a configuration.

    `base`: where paths in it begin, instead of the file's own folder.

    Raises
    ------
    ValueError
        For what is no TOML, an unknown table or key, or a value that is not allowed; the message
        names the key and what is.
    """
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        try:
            import tomli as tomllib  # type: ignore[no-redef, import-not-found, unused-ignore]
        except ModuleNotFoundError:
            raise ImportError(
                'train: Python 3.10 needs tomli: pip install "medseg_fast[nn]"'
            ) from None
    text = path.read_text(encoding="utf-8")
    try:
        given = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{path}: not TOML: {error}") from None
    base = path.parent if base is None else base
    return Config(path.absolute(), checked(str(path), given), base.absolute())


def checked(where: str, given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The tables with defaults; `where` begins every message."""
    for name, table in given.items():
        if name not in TABLES:
            raise ValueError(f"{where}: [{name}] is not a table; {_near(name, TABLES)}")
        if not isinstance(table, dict):
            raise ValueError(f"{where}: {name} must be a table [{name}], got {table!r}")
    result = {}
    for name, keys in TABLES.items():
        own = given.get(name, {})
        for key in own:
            if key not in keys and name not in _OPEN:
                raise ValueError(f"{where}: {name}.{key} is not a key; {_near(key, keys)}")
        filled = dict(own)
        for key, (default, allowed, check, required) in keys.items():
            if key not in own:
                if required:
                    raise ValueError(f"{where}: {name}.{key} is missing: {allowed}")
                filled[key] = default
            elif not check(own[key]):
                raise ValueError(f"{where}: {name}.{key} must be {allowed}, got {own[key]!r}")
        result[name] = filled
    for pattern, value in result["rates"].items():
        if not _real(value) or value < 0:
            raise ValueError(f'{where}: rates."{pattern}" must be a number from 0, got {value!r}')
    training = result["training"]
    if (training["steps"] is None) == (training["epochs"] is None):
        raise ValueError(f"{where}: one of training.steps and training.epochs must be given")
    result["loss"] = {name: value for name, value in result["loss"].items() if value is not None}
    if "structured" in result["loss"]:  # its network's results are patches, not classes
        if len(result["loss"]) > 1:
            raise ValueError(f"{where}: loss.structured must be the only loss")
        if result["data"]["target"] != "mask":
            raise ValueError(f'{where}: data.target must be "mask" for loss.structured')
    return result


def _near(word: str, known: Mapping[str, Any]) -> str:
    close = get_close_matches(word, known, 1)
    hint = f"perhaps {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(known)}"


def text(tables: Mapping[str, Mapping[str, Any]], notes: Mapping[str, str], head: str = "") -> str:
    """A configuration as TOML; ``notes["table.key"]`` is said behind the key."""
    lines = [f"# {line}".rstrip() for line in head.splitlines()]
    for name, table in tables.items():
        lines += ["", f"[{name}]"]
        for key, value in table.items():
            if value is None:
                continue
            line = f"{_key(key)} = {_value(value)}"
            note = notes.get(f"{name}.{key}")
            lines.append(f"{line}  # {note}" if note else line)
    return "\n".join(lines).lstrip("\n") + "\n"


def _key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if plain else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else "\\" + c if c in '"\\' else c
            for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{_key(key)} = {_value(each)}" for key, each in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, float) and value == int(value) and abs(value) < 1e15:
        return f"{value:.1f}"
    return repr(value)
