"""What the tests of the networks share: small versions of all of them, and counting."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from medseg_fast import nn  # noqa: E402

# name: (keyword arguments of a small version, its smallest comfortable input, one that is odd)
VGG = {"widths": (2, 3, 4, 5, 5)}
SMALL = {
    "lenet5": (nn.lenet5, {"classes": 3}, (32, 32), None),
    "fcn32s": (
        nn.fcn32s,
        {"in_channels": 1, "classes": 3, "fc_width": 6, **VGG},
        (32, 48),
        (33, 9),
    ),
    "fcn16s": (
        nn.fcn16s,
        {"in_channels": 1, "classes": 3, "fc_width": 6, **VGG},
        (32, 48),
        (33, 9),
    ),
    "fcn8s": (
        nn.fcn8s,
        {"in_channels": 1, "classes": 3, "fc_width": 6, "padding": "same", **VGG},
        (32, 48),
        (33, 9),
    ),
    "unet": (nn.unet, {"classes": 3, "widths": (3, 4, 5), "padding": "same"}, (12, 16), (13, 6)),
    "unet valid": (nn.unet, {"classes": 3, "widths": (3, 4, 5)}, (44, 48), None),
    "unet bilinear": (
        nn.unet,
        {"classes": 3, "widths": (4, 6, 8), "padding": "same", "up": "bilinear", "norm": "batch"},
        (12, 16),
        (5, 1),
    ),
    "unet 3D": (
        nn.unet,
        {"classes": 3, "ndim": 3, "widths": (4, 6), "padding": "same"},
        (4, 6, 8),
        (3, 5, 2),
    ),
    "unet_plus_plus": (
        nn.unet_plus_plus,
        {"classes": 3, "widths": (3, 4, 5), "norm": "batch"},
        (12, 16),
        (13, 6),
    ),
    "nonlocal_unet": (
        nn.nonlocal_unet,
        {"in_channels": 1, "classes": 3, "width": 4},
        (8, 4, 8),
        (3, 5, 7),
    ),
    "vnet": (nn.vnet, {"classes": 3, "widths": (2, 4, 8)}, (4, 8, 12), (5, 3, 9)),
    "segnet": (nn.segnet, {"in_channels": 1, "classes": 3, **VGG}, (32, 64), (45, 33)),
    "pspnet": (
        nn.pspnet,
        {"in_channels": 1, "classes": 3, "backbone": "resnet18", "width": 4},
        (48, 64),
        (37, 50),
    ),
}


def small(name):
    """A network and an input for it, seeded."""
    torch.manual_seed(0)
    make, arguments, size, _ = SMALL[name]
    model = make(**arguments)
    for key, parameter in model.named_parameters():
        if "score" in key:  # FCN's start at 0: no signal
            torch.nn.init.normal_(parameter, std=0.1)
    return model, torch.randn(2, 1, *size)


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def on_meta(make, *args, **kwargs):
    """A network without memory or time: for shapes and counts."""
    with torch.device("meta"):
        return make(*args, **kwargs)
