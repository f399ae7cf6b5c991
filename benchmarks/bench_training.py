"""A step of training as `nn.fit` makes it, beside PyTorch's own operations in all its settings.

Two threads: loss, gradients and AdamW, whose rate is 0 so that every step is the same work on the
same weights and gives the same gradients.
"""

from __future__ import annotations

import copy
from contextlib import ExitStack

import numpy as np
import pytest
from _cases import Case
from _runtimes import THREADS

# How far gradients may be apart, of the largest. Maxima and rectifiers turn on the last digit;
# those of bfloat16 are half their size from float32's after so many layers, PyTorch's as well.
BOUNDS = {"float32": 0.03, "bfloat16": 0.9}


def _same(precision):
    def same(ours, theirs):
        """Loss and the first layer's gradients: all else goes into them, its rounding too."""
        np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-3)
        apart = np.abs(ours[1] - theirs[1]).max()
        assert apart <= BOUNDS[precision] * np.abs(theirs[1]).max()

    return same


def _step(shape, precision, **options):
    def build():
        import torch

        from medseg_fast import nn
        from medseg_fast.nn import _seam
        from medseg_fast.nn._training.layers import quick_layers
        from medseg_fast.nn._training.loop import autocast
        from medseg_fast.nn._training.objective import default_loss, of_logits

        torch.manual_seed(0)
        torch.set_num_threads(THREADS)
        ndim = len(shape) - 2
        network = nn.unet(shape[1], 2, ndim=ndim, padding="same", design="2015", **options).train()
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.standard_normal(shape, np.float32))
        labels = torch.from_numpy(rng.integers(0, 2, (shape[0], *shape[2:])))
        last = torch.channels_last if ndim == 2 else torch.channels_last_3d

        def call(ours=False, order=torch.contiguous_format, compiled=False):
            own = copy.deepcopy(network).to(memory_format=order)
            given = images.contiguous(memory_format=order)
            objective = of_logits(default_loss())
            forward = torch.compile(own) if compiled else own
            optimiser = torch.optim.AdamW(own.parameters(), lr=0.0, fused=True)
            first = next(own.parameters())

            def step():
                with ExitStack() as stack:
                    stack.enter_context(quick_layers(own) if ours else _seam.torch_only())
                    optimiser.zero_grad(set_to_none=True)
                    with autocast(precision, given.device):
                        loss = objective(forward, given, labels)
                    loss.backward()
                    optimiser.step()
                return np.float32(loss.item()), first.grad.numpy().copy()

            return step

        return images.numpy(), {
            "medseg_fast": call(ours=True),
            "PyTorch": call(),
            "PyTorch channels-last": call(order=last),
            "torch.compile channels-last": call(order=last, compiled=True),
        }

    return build


def _case(name, shape, precision, target, **options):
    size = "x".join(map(str, shape[2:]))
    data = f"step of {name}, {shape[0]} x {size}, {precision}"
    build = _step(shape, precision, **options)
    return Case("fit", data, build, same=_same(precision), target=target)


_SMALL = {"widths": (16, 32, 64, 128), "norm": "batch"}
_LARGE = {"widths": (32, 64, 128, 256, 512), "norm": "batch"}
_VOLUME = {"widths": (16, 32, 64), "norm": "instance"}
CASES = [
    _case("U-Net 16..128", (2, 3, 256, 256), "float32", 1.0, **_SMALL),
    _case("U-Net 32..512", (2, 3, 256, 256), "float32", 1.0, **_LARGE),
    _case("U-Net 32..512", (2, 3, 256, 256), "bfloat16", 1.0, **_LARGE),
    _case("3D U-Net 16..64", (4, 1, 32, 48, 32), "float32", 1.0, **_VOLUME),
    _case("3D U-Net 16..64", (4, 1, 32, 48, 32), "bfloat16", 1.0, **_VOLUME),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
