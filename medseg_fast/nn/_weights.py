"""Weights from files into networks, and networks into files. Never a pickle that could run code."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from itertools import accumulate, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from medseg_fast._version import __version__
from medseg_fast.io._common import replacing
from medseg_fast.nn import _layouts
from medseg_fast.nn._blocks import Network

if TYPE_CHECKING:
    from medseg_fast.nn.mask_rcnn import MaskRCNN

_KEY = "medseg_fast"  # of the metadata
# Under which names training scripts put the weights beside their optimiser's state.
_CONTAINERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "network_weights",
    "model",
    "net",
    "weights",
    "params",
)
# What wrappers (DataParallel, torch.compile, Lightning) put before keys, in any order.
_WRAPPERS = {"module", "_orig_mod", "model", "net", "network"}
# What torch says of an object that it refuses to make.
_REFUSED = re.compile(r"Unsupported (?:global: GLOBAL|class) (\S+)")
_COUNTER = "num_batches_tracked"  # of batch norms; files of before PyTorch 0.4.1 lack it


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` found in a file and did with it; ``print(report)`` says it in words.

    Of batch norms' ``num_batches_tracked``, which evaluation does not need, nothing is said.

    Attributes
    ----------
    path : str
        The file.
    layout : str
        Whose names the weights had.
    loaded : list of str
        The model's keys that got their values.
    missing : list of str
        The model's keys for which the file has nothing; they keep their values.
    unexpected : list of str
        Keys of the file for which the model has no place.
    mismatched : dict
        By key, both shapes (the file's, the model's) where they differ; not loaded.
    complete : bool
        All that the layout is known to hold was loaded.
    """

    path: str
    layout: str
    loaded: list[str]
    missing: list[str]
    unexpected: list[str]
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    complete: bool = True

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.missing) + len(self.mismatched)
        lines = [
            f"{self.path}: names of {self.layout}",
            f"  loaded {len(self.loaded)} of the model's {total} tensors",
        ]
        for words, keys in (
            ("missing in the file", self.missing),
            ("no place in the model", self.unexpected),
        ):
            if keys:
                lines.append(f"  {words} ({len(keys)}): {_listed(keys)}")
        for key, (theirs, ours) in list(self.mismatched.items())[:_SHOWN]:
            lines.append(f"  {key}: shape {theirs} in the file, {ours} in the model")
        if len(self.mismatched) > _SHOWN:
            lines.append(f"  and {len(self.mismatched) - _SHOWN} more of another shape")
        return "\n".join(lines)


_SHOWN = 8


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _SHOWN} more" if len(keys) > _SHOWN else ""
    return ", ".join(keys[:_SHOWN]) + more


def load_weights(
    model: nn.Module, path: str | os.PathLike[str], *, strict: bool = True
) -> LoadReport:
    """Load weights from a file into a network.

    Parameters
    ----------
    model : nn.Module
        Any module. For our networks the names of other projects are known: torchvision's VGG16
        (into `fcn32s` and its sisters, `segnet`) and ResNet (into `pspnet`); the U-Nets of
        milesial/Pytorch-UNet, mateuszbuda/brain-segmentation-pytorch and MONAI's BasicUNet (into
        `unet`). Whose they are is found by their names. A network for grey images takes weights for
        colours: the sum over the three kernels of its first convolution.
    path : str or path-like
        A ``.safetensors`` file, or one written by ``torch.save``, of which only tensors are read
        (``weights_only=True``). The weights may lie under ``state_dict`` or a similar name, and
        their names begin with ``module.`` or the like, which is taken off where more fits without.
    strict : bool, optional
        True: raise if anything of the model's stays as it was that the file should hold. False:
        load what fits.

    Returns
    -------
    report : LoadReport
        ``print(report)`` says what was loaded, is missing, or has another shape.

    Raises
    ------
    ValueError
        If the file holds no weights, or, with `strict`, not all of the model's; the message is the
        report. Nothing has been loaded then.
    ImportError
        If safetensors is missing.

    Notes
    -----
    Where the sizes of an image do not halve evenly, the U-Nets of milesial and MONAI pad the maps
    of their decoders and ours pads the image: results are theirs, to rounding, at multiples of
    ``2 ** depth`` pixels (16 for five levels) and differ a little elsewhere.
    """
    given, _ = read_state(path)
    own = model.state_dict()
    layout, state = max(
        (_converted(candidate, model) for candidate in _unwrapped(given)),
        key=lambda found: len(own.keys() & found[1].keys()),
    )
    fitting, mismatched = {}, {}
    for key, value in state.items():
        if key in own and tuple(own[key].shape) != tuple(value.shape):
            mismatched[key] = (tuple(value.shape), tuple(own[key].shape))
        elif key in own:
            fitting[key] = value
    loaded = _reported(fitting)
    missing = _reported(key for key in own if key not in state)
    unexpected = _reported(key for key in state if key not in own)
    complete = bool(loaded) and not mismatched and not unexpected
    report = LoadReport(
        os.fspath(path),
        layout.name,
        loaded,
        missing,
        unexpected,
        mismatched,
        complete and (layout.partial or not missing),
    )
    if strict and not report.complete:
        raise ValueError(f"load_weights: the file does not fit the model\n{report}")
    model.load_state_dict(fitting, strict=False)
    return report


def _reported(keys: Iterable[str]) -> list[str]:
    """The keys that a report names."""
    return [key for key in keys if not key.endswith(_COUNTER)]


def _converted(state: _layouts.State, model: nn.Module) -> tuple[_layouts.Layout, _layouts.State]:
    layout = _layouts.find(state, model)
    return layout, layout.convert(state, model)


def save_model(
    model: Network | MaskRCNN,
    path: str | os.PathLike[str],
    *,
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Write a network, its weights and how it was made, as a safetensors file.

    Parameters
    ----------
    model : Network or MaskRCNN
        Made by a function of `medseg_fast.nn`, or of `medseg_fast.nn.mask_rcnn`.
    path : str or path-like
        A file with the ending ``.safetensors``; it appears complete or not at all.
    metadata : dict, optional
        What else to keep, as JSON can hold it. `predict` reads ``spacing`` (mm per axis at which
        the network works), ``normalise`` (how intensities are prepared), ``window`` and
        ``structured`` (side of the patches of `StructuredLoss`).

    Notes
    -----
    `load_model` makes the network again. The file holds numbers and JSON: nothing in it is run.
    """
    save = _safetensors("save")
    target = Path(path)
    if target.suffix != ".safetensors":
        raise ValueError(f"save_model: path must end with .safetensors, got {target.name!r}")
    architecture = getattr(model, "architecture", None)
    if architecture is None:
        raise TypeError(
            "save_model: model must be made by a function of medseg_fast.nn, got "
            f"{type(model).__name__}"
        )
    kept = {**getattr(model, "metadata", {}), **(metadata or {})}
    facts = {
        "network": architecture.network,
        "arguments": architecture.arguments,
        "metadata": kept,
        "version": __version__,
    }
    try:
        text = json.dumps(facts)
    except TypeError as error:
        raise TypeError(
            f"save_model: metadata and the network's arguments must fit into JSON: {error}"
        ) from None
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    with replacing(target, overwrite=True) as file:
        file.write(save(state, metadata={_KEY: text}))


def load_model(path: str | os.PathLike[str]) -> Network | MaskRCNN:
    """Make the network that a file holds, with its weights, in evaluation mode.

    Parameters
    ----------
    path : str or path-like
        A file of `save_model`; or a checkpoint of one of the U-Nets that `load_weights` knows (and
        whose Notes hold here, too), whose channels and depth are read off its weights.

    Returns
    -------
    model : Network or MaskRCNN
        ``model.metadata`` holds what `save_model` was given.

    Raises
    ------
    ValueError
        If the file does not say which network it is for.
    """
    from medseg_fast import nn as networks

    state, facts = read_state(path)
    if facts is None:
        known = [
            (layout, candidate)
            for candidate in _unwrapped(state)
            for layout in [_layouts.find(candidate, None)]
            if layout.build is not None
        ]
        if not known:
            raise ValueError(
                f"load_model: {os.fspath(path)} does not say which network it is for: make the "
                "network and use load_weights(model, path)"
            )
        layout, state = known[0]
        state = layout.convert(state, None)
        facts = {"network": "unet", "arguments": _layouts.unet_arguments(layout, state)}
    name = facts.get("network")
    if name not in networks._NETWORKS or not isinstance(facts.get("arguments"), dict):
        raise ValueError(f"load_model: {os.fspath(path)}: unknown network {name!r}")
    with torch.device("meta"):
        try:
            module = import_module(f"{networks.__name__}.{networks._NETWORKS[name]}")
            model: Network | MaskRCNN = getattr(module, name)(**facts["arguments"])
        except TypeError as error:  # made by a newer version, or by hand
            raise ValueError(f"load_model: {os.fspath(path)}: {error}") from None
    own = model.state_dict()
    wrong = [key for key in own if key not in state or state[key].shape != own[key].shape]
    if wrong or len(state) != len(own):
        wrong += [key for key in state if key not in own]
        raise ValueError(
            f"load_model: {os.fspath(path)}: its weights do not fit {name}: {_listed(wrong)}"
        )
    model.load_state_dict(state, assign=True)
    _restore_constants(model)
    model.metadata = facts.get("metadata", {})
    return model.eval()


def _restore_constants(model: nn.Module) -> None:
    """What a network computes when it is made, and no file holds."""
    from medseg_fast.nn._lenet import PartialConv

    for module in model.modules():
        if isinstance(module, PartialConv):
            module.set_connections()


def read_state(path: str | os.PathLike[str]) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """The tensors of a file, and what `save_model` wrote beside them, if it did."""
    name = os.fspath(path)
    if not Path(path).is_file():
        raise FileNotFoundError(f"{name}: no such file")
    facts = None
    if Path(path).suffix == ".safetensors":
        state, facts = _read_safetensors(name)
    else:
        state = _tensors(_read_pickle(name))
    if not state:
        raise ValueError(f"{name}: holds no weights")
    return state, facts


def _read_safetensors(name: str) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    safe_open = _safetensors("safe_open")
    try:
        with safe_open(name, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}
            text = (file.metadata() or {}).get(_KEY)
    except Exception as error:  # SafetensorError: not exported everywhere
        if isinstance(error, (OSError, MemoryError)):
            raise
        raise ValueError(f"{name}: not a safetensors file: {error}") from None
    if text is None:
        return state, None
    try:
        facts = json.loads(text)
    except json.JSONDecodeError:
        facts = None
    if not isinstance(facts, dict):
        raise ValueError(f"{name}: its metadata are damaged")
    return state, facts


def _read_pickle(name: str) -> Any:
    """What `torch.save` wrote, if it is made of tensors and plain values alone."""
    try:
        return torch.load(name, map_location="cpu", weights_only=True)
    except Exception as error:  # any, of a damaged file: EINVAL where it is to be read before 0
        if isinstance(error, MemoryError) or getattr(error, "errno", errno.EINVAL) != errno.EINVAL:
            raise
        refused = _REFUSED.search(str(error))
        what = f"it holds {refused[1]!r}" if refused else f"damaged? ({type(error).__name__})"
        raise ValueError(
            f"{name}: not a file of weights (of torch.save's only tensors are read, no other "
            f"Python objects): {what}"
        ) from None


def _tensors(state: Any) -> dict[str, Tensor]:
    """The mapping of names to tensors, out of what training scripts put around and beside it."""
    if not isinstance(state, Mapping):
        return {}
    for name in _CONTAINERS:
        if inner := _tensors(state.get(name)):
            return inner
    return {str(key): value for key, value in state.items() if isinstance(value, Tensor)}


def _unwrapped(state: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """The weights by their names, then without each of the prefixes that wrappers gave them."""
    prefixes = {""}
    for key in state:
        wrappers = takewhile(_WRAPPERS.__contains__, key.split("."))
        prefixes.update(accumulate(f"{name}." for name in wrappers))
    for prefix in sorted(prefixes):
        inside = [key for key in state if key.startswith(prefix)]
        outside = {key: value for key, value in state.items() if not key.startswith(prefix)}
        yield {**outside, **{key.removeprefix(prefix): state[key] for key in inside}}


def _safetensors(name: str) -> Any:
    try:
        import safetensors
        from safetensors import torch as for_torch
    except ImportError:
        raise ImportError(
            'medseg_fast.nn: safetensors is missing: pip install "medseg_fast[nn]"'
        ) from None
    return safetensors.safe_open if name == "safe_open" else getattr(for_torch, name)
