"""Launches every kernel on small inputs of odd sizes: a program for the thread sanitizer.

Each CUDA thread is a thread to the sanitizer, too, which takes a hundred times as long as the tests
do: hence few inputs, and two schedules where threads meet.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import Any
from unittest.mock import patch

import numpy as np
from _shim import ShimDevice
from medseg_fast.kernels.source import SOURCES

from medseg_fast import _gpu
from medseg_fast._dispatch import OPERATIONS
from medseg_fast._gpu import _waves, graph_cut
from medseg_fast.nn.functional import max_pool_with_indices

for _module in iter_modules(_gpu.__path__):
    import_module(f"medseg_fast._gpu.{_module.name}")


def calls() -> list[tuple[Any, ...]]:
    """Operations and their arguments."""
    rng = np.random.default_rng(0)
    image = rng.random((11, 40)).astype(np.float32)
    grey, mask = (image * 255).astype(np.uint8), image < 0.6
    low = rng.random((70, 2)).astype(np.float32) * 30
    boxes = np.concatenate([low, low + 15], 1)
    pooled, indices = max_pool_with_indices(rng.random((1, 2, 8, 9)), 2, 1)
    features, kernel = rng.normal(size=(1, 2, 9, 35)), rng.normal(size=(3, 2, 3, 3))
    return [
        ("label", mask),
        ("label", rng.random((2, 9, 34)) < 0.5),
        ("connected_threshold", image, (3, 3), 0.2, 0.8),
        ("apply_hysteresis_threshold", image, 0.4, 0.9),
        ("threshold", image, 0.5),
        ("threshold_otsu", grey),
        ("threshold_otsu", image),
        ("threshold_otsu", grey.astype(np.uint16)),
        ("threshold_li", image),
        ("sobel", image),
        ("laplace", image),
        ("roberts", image),
        ("gaussian", image),
        ("gaussian_gradient_magnitude", image, 1),
        ("zero_crossings", image - 0.5),
        ("canny", image),
        ("canny", grey, 1.0, None, None, None, False, {"convention": "opencv"}),
        ("distance_transform_edt", mask),
        ("distance_transform_edt", rng.random((2, 9, 34)) < 0.9),
        ("watershed", grey // 32, {"watershed_line": True}),
        ("maxflow_grid", grey[:5, :9], grey[5:10, :9], 60),
        ("nms", boxes, boxes[:, 0], 0.3),
        ("soft_nms", boxes, boxes[:, 0]),
        ("paste_masks", rng.random((2, 1, 5, 5)), boxes[:2], (20, 33)),
        ("roi_align", rng.random((1, 2, 9, 9)), np.array([[0, 1, 1, 7, 7.0]]), 3),
        ("roi_align_backward", np.ones((1, 2, 3, 3)), np.array([[0, 1, 1, 7, 7.0]]), (1, 2, 9, 9)),
        ("resample_argmax", rng.random((3, 5, 6)), (9, 11)),
        ("conv_pool", features, kernel, None, {"padding": 1, "pool": "max"}),
        ("conv_pool", features, kernel, None, {"pool": "avg", "return_full": True}),
        ("pyramid_pool", features, (1, 3), [kernel[:, :, 0, 0]] * 2),
        ("max_unpool", pooled, indices, 2, 1),
        ("transposed_conv2x2", features, kernel.transpose(1, 0, 2, 3)[..., :2, :2]),
    ]


@patch.object(graph_cut, "PULSES", 4)
@patch.object(_waves, "ROUNDS", 2)
def launched(schedules: int) -> set[str]:
    """Run all calls; the names of the kernels that they launched."""
    names: set[str] = set()
    for name, *args in calls():
        options = args.pop() if isinstance(args[-1], dict) else {}
        for seed in range(schedules):
            device = ShimDevice(seed)
            OPERATIONS[name].on_gpu(device, args, options)
            names |= {expression.partition("<")[0] for expression in device.launched}
    return names


if __name__ == "__main__":
    launched(2)
    print("every kernel ran", sorted(kernel for s in SOURCES.values() for kernel in s.kernels))
