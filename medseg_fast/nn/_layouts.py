"""Whose keys a checkpoint has, and what they are called in our networks.

Facts of public repositories (names, order of channels, of layers): torchvision's models,
milesial/Pytorch-UNet, mateuszbuda/brain-segmentation-pytorch, Project-MONAI/MONAI's BasicUNet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from medseg_fast.nn._fcn import FCN
from medseg_fast.nn._pspnet import PSPNet
from medseg_fast.nn._resnet import ResNet
from medseg_fast.nn._segnet import SegNet

State = dict[str, Tensor]


class Layout(NamedTuple):
    """One way to name the weights of a network."""

    name: str
    fits: Callable[[State, nn.Module | None], bool]
    convert: Callable[[State, nn.Module | None], State]
    partial: bool = False  # holds only the encoder: the rest keeps its values
    build: dict[str, Any] | None = None  # what `unet` is told where only the file says what it is


def find(state: State, model: nn.Module | None) -> Layout:
    """The layout of a checkpoint; ours where nothing else fits."""
    return next((layout for layout in LAYOUTS if layout.fits(state, model)), OURS)


def _renamed(state: State, rules: Iterable[tuple[str, str | None]]) -> State:
    """Keys by the first rule (pattern of the whole key, replacement) that matches; None drops."""
    compiled = [(re.compile(pattern), replacement) for pattern, replacement in rules]
    result = {}
    for key, value in state.items():
        for pattern, replacement in compiled:
            if pattern.fullmatch(key):
                if replacement is not None:
                    result[pattern.sub(replacement, key)] = value
                break
        else:
            result[key] = value
    return result


def _grey(state: State, key: str, model: nn.Module | None) -> State:
    """A first convolution for colours in a network for grey images: what R = G = B would give."""
    wanted = getattr(model, "in_channels", None)
    if wanted == 1 and key in state and state[key].shape[1] == 3:
        state = {**state, key: state[key].sum(1, keepdim=True)}
    return state


# --- torchvision's VGG16 into FCN and SegNet


def _is_vgg(state: State, model: nn.Module | None) -> bool:
    return isinstance(model, (FCN, SegNet)) and "classifier.0.weight" in state


def _from_vgg(state: State, model: nn.Module | None) -> State:
    rules: list[tuple[str, str | None]] = [(r"classifier\.6\..*", None)]
    if isinstance(model, FCN):
        rules += [(r"classifier\.0\.(.*)", r"fc6.\1"), (r"classifier\.3\.(.*)", r"fc7.\1")]
    rules.append((r"classifier\..*", None))
    state = _grey(_renamed(state, rules), "features.0.weight", model)
    for key, size in (("fc6.weight", 7), ("fc7.weight", 1)):
        if key in state and state[key].ndim == 2:
            rows = state[key].shape[0]
            state[key] = state[key].reshape(rows, -1, size, size)
    return state


# --- torchvision's ResNet, also of its segmentation models, into PSPNet and ResNet


def _is_resnet(state: State, model: nn.Module | None) -> bool:
    key = "layer1.0.conv1.weight"
    if isinstance(model, ResNet):
        return "fc.weight" in state
    theirs = key in state or (f"backbone.{key}" in state and "classifier.4.weight" in state)
    return isinstance(model, PSPNet) and theirs


def _from_resnet(state: State, model: nn.Module | None) -> State:
    rules = [(r"(fc|classifier|aux_classifier)\..*", None)]
    prefix = "backbone." if isinstance(model, PSPNet) else ""
    if "conv1.weight" in state and prefix:
        state = {prefix + key: value for key, value in state.items() if key[:3] != "fc."}
    return _grey(_renamed(state, rules), prefix + "conv1.weight", model)


# --- U-Nets


def _is_milesial(state: State, model: nn.Module | None) -> bool:
    return "inc.double_conv.0.weight" in state and "outc.conv.weight" in state


def _from_milesial(state: State, model: nn.Module | None) -> State:
    depth = _count(state, r"down(\d+)\.")
    layers = {"0": "conv1", "1": "norm1", "3": "conv2", "4": "norm2"}
    result = {}
    for key, value in state.items():
        if found := re.fullmatch(r"inc\.double_conv\.(\d)\.(\w+)", key):
            key = f"encoder.0.{layers[found[1]]}.{found[2]}"
        elif found := re.fullmatch(r"down(\d+)\.maxpool_conv\.1\.double_conv\.(\d)\.(\w+)", key):
            key = f"encoder.{found[1]}.{layers[found[2]]}.{found[3]}"
        elif found := re.fullmatch(r"up(\d+)\.up\.(\w+)", key):
            key = f"up.{depth - int(found[1])}.{found[2]}"
        elif found := re.fullmatch(r"up(\d+)\.conv\.double_conv\.(\d)\.(\w+)", key):
            key = f"decoder.{depth - int(found[1])}.{layers[found[2]]}.{found[3]}"
        elif found := re.fullmatch(r"outc\.conv\.(\w+)", key):
            key = f"head.{found[1]}"
        result[key] = value
    return _with_biases(result, model)


def _is_buda(state: State, model: nn.Module | None) -> bool:
    return "encoder1.enc1conv1.weight" in state and "bottleneck.bottleneckconv1.weight" in state


def _from_buda(state: State, model: nn.Module | None) -> State:
    depth = _count(state, r"encoder(\d+)\.")
    result = {}
    for key, value in state.items():
        if found := re.fullmatch(r"encoder(\d+)\.enc\d+(\w+)\.(\w+)", key):
            key = f"encoder.{int(found[1]) - 1}.{found[2]}.{found[3]}"
        elif found := re.fullmatch(r"bottleneck\.bottleneck(\w+)\.(\w+)", key):
            key = f"encoder.{depth}.{found[1]}.{found[2]}"
        elif found := re.fullmatch(r"upconv(\d+)\.(\w+)", key):
            key = f"up.{int(found[1]) - 1}.{found[2]}"
        elif found := re.fullmatch(r"decoder(\d+)\.dec\d+(\w+)\.(\w+)", key):
            key = f"decoder.{int(found[1]) - 1}.{found[2]}.{found[3]}"
            if key.endswith("conv1.weight"):  # they concatenate (up, skip), we (skip, up)
                value = torch.cat(value.chunk(2, 1)[::-1], 1)
        elif found := re.fullmatch(r"conv\.(\w+)", key):
            key = f"head.{found[1]}"
        result[key] = value
    return _with_biases(result, model)


def _is_monai(state: State, model: nn.Module | None) -> bool:
    return "conv_0.conv_0.conv.weight" in state and "final_conv.weight" in state


def _from_monai(state: State, model: nn.Module | None) -> State:
    def layer(index: str, rest: str) -> str:
        kind = "conv" if rest.startswith("conv.") else "norm"
        return f"{kind}{int(index) + 1}.{rest.rpartition('.')[2]}"

    result = {}
    for key, value in state.items():
        if found := re.fullmatch(r"conv_0\.conv_(\d)\.(.*)", key):
            key = f"encoder.0.{layer(found[1], found[2])}"
        elif found := re.fullmatch(r"down_(\d+)\.convs\.conv_(\d)\.(.*)", key):
            key = f"encoder.{found[1]}.{layer(found[2], found[3])}"
        elif found := re.fullmatch(r"upcat_(\d+)\.upsample\.deconv\.(\w+)", key):
            key = f"up.{int(found[1]) - 1}.{found[2]}"
        elif found := re.fullmatch(r"upcat_(\d+)\.convs\.conv_(\d)\.(.*)", key):
            key = f"decoder.{int(found[1]) - 1}.{layer(found[2], found[3])}"
        elif found := re.fullmatch(r"final_conv\.(\w+)", key):
            key = f"head.{found[1]}"
        result[key] = value
    return result


def _count(state: State, pattern: str) -> int:
    found = [re.match(pattern, key) for key in state]
    return max(int(match[1]) for match in found if match)


def _with_biases(state: State, model: nn.Module | None) -> State:
    """Zeros for biases that a model has and a checkpoint, whose norms follow, does without."""
    if model is None:
        return state
    for key, value in model.state_dict().items():
        if re.fullmatch(r"(encoder|decoder)\.\d+\.conv\d\.bias", key) and key not in state:
            state[key] = torch.zeros_like(value)
    return state


def unet_arguments(layout: Layout, state: State) -> dict[str, Any]:
    """What `unet` must be told to fit a converted checkpoint."""
    depth = _count(state, r"encoder\.(\d+)\.")
    first = state["encoder.0.conv1.weight"]
    widths = [state[f"encoder.{level}.conv2.weight"].shape[0] for level in range(depth + 1)]
    arguments = {
        "in_channels": first.shape[1],
        "classes": state["head.weight"].shape[0],
        "ndim": first.ndim - 2,
        "padding": "same",
        "norm": "none",
        "bias": "encoder.0.conv1.bias" in state,
        **(layout.build or {}),
    }
    if "encoder.0.norm1.weight" in state:
        batch = "encoder.0.norm1.running_mean" in state
        arguments["norm"] = "batch" if batch else "instance"
    if "up.0.weight" not in state:
        arguments["up"] = "bilinear"
        arguments["align_corners"] = True
        widths[-1] *= 2
    if arguments.get("design") == "monai":
        widths.append(state["decoder.0.conv2.weight"].shape[0])
    return {**arguments, "widths": widths}


def _never(state: State, model: nn.Module | None) -> bool:
    return False


def _same(state: State, model: nn.Module | None) -> State:
    return state


OURS = Layout("medseg_fast", _never, _same)
LAYOUTS = (
    Layout("torchvision VGG16", _is_vgg, _from_vgg, partial=True),
    Layout("torchvision ResNet", _is_resnet, _from_resnet, partial=True),
    Layout("milesial/Pytorch-UNet", _is_milesial, _from_milesial, build={"design": "2015"}),
    Layout(
        "mateuszbuda/brain-segmentation-pytorch", _is_buda, _from_buda, build={"design": "2015"}
    ),
    Layout("MONAI BasicUNet", _is_monai, _from_monai, build={"design": "monai"}),
)
