"""How even calls of one network take: ``python benchmarks/jitter.py [calls]``.

U-Net 64..1024 at 256 x 256, float32, two threads; a plan and OpenVINO in turn, so that whatever
else the machine does falls on both. The figure is the 99th percentile over the median.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from _runtimes import THREADS, runtimes

SIDE = 256


def measure(calls: int = 500) -> dict[str, tuple[float, float]]:
    """Median and 99th percentile in milliseconds, by runtime."""
    import torch

    import medseg_fast
    from medseg_fast import nn
    from medseg_fast.nn import _seam

    torch.manual_seed(0)
    medseg_fast.set_num_threads(THREADS)
    model = nn.unet(1, 2, padding="same").eval().requires_grad_(False)
    x = np.random.default_rng(0).standard_normal((1, 1, SIDE, SIDE), np.float32)
    plan = nn.optimize(model, x)

    def forward(tensor):
        with _seam.torch_only():
            return model(tensor)

    others = runtimes(forward, x, skip="ONNX Runtime")
    others.pop("PyTorch")
    runs = {"medseg_fast": lambda: plan(x), **others}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        run()
    for _ in range(calls):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: tuple(1e3 * np.percentile(taken, (50, 99))) for name, taken in seconds.items()}  # type: ignore[return-value]


if __name__ == "__main__":
    for name, (median, late) in measure(*map(int, sys.argv[1:2])).items():
        print(f"{name}: p50 {median:.1f} ms, p99 {late:.1f} ms, p99/p50 {late / median:.2f}")
