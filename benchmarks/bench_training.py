"""A step of training as `nn.fit` makes it, beside PyTorch's own operations in all its settings.

U-Net 256 x 256, batch 2, float32, two threads: loss, gradients and AdamW, whose rate is 0 so that
every step is the same work on the same weights and gives the same gradients.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
from _cases import Case
from _runtimes import THREADS


def _same(ours, theirs):
    """Loss and the first layer's gradients: all else goes into them, its rounding too."""
    for a, b in zip(ours, theirs, strict=True):
        assert np.abs(a - b).max() <= 0.03 * np.abs(b).max()


def _step(widths):
    def build():
        import torch

        from medseg_fast import nn
        from medseg_fast.nn import _seam
        from medseg_fast.nn._training.layers import quick_layers
        from medseg_fast.nn._training.objective import default_loss, of_network

        torch.manual_seed(0)
        torch.set_num_threads(THREADS)
        network = nn.unet(3, 2, widths=widths, padding="same", norm="batch").train()
        rng = np.random.default_rng(0)
        images = torch.from_numpy(rng.standard_normal((2, 3, 256, 256), np.float32))
        labels = torch.from_numpy(rng.integers(0, 2, (2, 256, 256)))

        def call(context=None, order=torch.contiguous_format, compiled=False):
            own = copy.deepcopy(network).to(memory_format=order)
            given = images.contiguous(memory_format=order)
            objective = of_network(own, None) if context is None else _plain(default_loss())
            forward = torch.compile(own) if compiled else own
            optimiser = torch.optim.AdamW(own.parameters(), lr=0.0, fused=True)
            first = next(own.parameters())

            def step():
                with quick_layers(own) if context is None else context():
                    optimiser.zero_grad(set_to_none=True)
                    loss = objective(forward, given, labels)
                    loss.backward()
                    optimiser.step()
                return np.float32(loss.item()), first.grad.numpy().copy()

            return step

        return images.numpy(), {
            "medseg_fast": call(),
            "PyTorch": call(_seam.torch_only),
            "PyTorch channels-last": call(_seam.torch_only, torch.channels_last),
            "torch.compile channels-last": call(_seam.torch_only, torch.channels_last, True),
        }

    return build


def _plain(loss):
    return lambda network, images, labels: loss(network(images), labels)


CASES = [
    Case("fit", f"step of U-Net {w[0]}..{w[-1]}, 2 x 256x256", _step(w), same=_same, target=1.0)
    for w in ((16, 32, 64, 128), (32, 64, 128, 256, 512))
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
