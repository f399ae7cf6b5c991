"""Inputs and results of plans that lie in memory as maps between layers do."""

from __future__ import annotations

import numpy as np
import pytest
from _convolutions import bfloat16, channels_last

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from medseg_fast._dispatch import BFLOAT16  # noqa: E402
from medseg_fast.nn._optimize import _build  # noqa: E402
from medseg_fast.nn.functional._features import to_float32  # noqa: E402


class Module(torch.nn.Module):
    """Results that a convolution makes and others read, that single pixels make, and inputs."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.Conv2d(16, 32, 3, padding=1)
        self.second = torch.nn.Conv2d(32, 16, 1)
        self.norm = torch.nn.GroupNorm(2, 32)

    def forward(self, x):
        a = self.first(x).relu()
        b = self.norm(a)
        c = self.second(b) + x
        joined = torch.cat([a, c], 1)
        return a, a, b, c.sigmoid(), joined, joined[:, 3:17], x


RESULTS = 7


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("outputs", [frozenset(range(RESULTS)), frozenset([1, 4]), frozenset()])
@pytest.mark.parametrize("inside", [False, True])
def test_same_values_in_either_layout(rng, precision, outputs, inside):
    torch.manual_seed(0)
    module = Module().eval()
    narrow = precision == "bfloat16"
    x = rng.standard_normal((2, 16, 7, 9)).astype(np.float32)
    stored, x = bfloat16(x) if narrow else (x, x)
    with torch.no_grad():
        expected = module(torch.from_numpy(x))
    plan = _build._compiled(
        module,
        (torch.from_numpy(x),),
        precision,
        None,
        {},
        internal_inputs=frozenset([0] if inside else []),
        internal_outputs=outputs,
    )
    given = channels_last(stored) if inside else x
    for results in (plan(given), plan(given, out=plan.empty_results())):
        assert len(results) == RESULTS
        for i, (result, wanted) in enumerate(zip(results, expected, strict=True)):
            within = i in outputs
            assert result.dtype == (BFLOAT16 if narrow and within else np.float32)
            memory = np.moveaxis(result, 1, -1) if within else result
            assert memory.flags.c_contiguous
            bound = 0.02 if narrow else 1e-5
            error = np.abs(to_float32(result) - wanted.numpy()).max()
            assert error <= bound * wanted.abs().max().item()


def test_refuses_the_other_layout(rng):
    module = torch.nn.Conv2d(16, 16, 3).eval()
    plan = _build._compiled(
        module,
        (torch.zeros(1, 16, 8, 8),),
        "bfloat16",
        None,
        {},
        internal_inputs=frozenset([0]),
        internal_outputs=frozenset([0]),
    )
    with pytest.raises(TypeError, match=r"input must be .*bfloat16.*, got float32"):
        plan(np.zeros((1, 16, 8, 8), np.float32))
    given = np.zeros((1, 16, 8, 8), BFLOAT16)  # copied to the order that it wants
    right = plan.empty_results()
    plan(given, out=right)
    for wrong in (
        [np.zeros((1, 16, 6, 6), np.float32)],
        [np.zeros((1, 16, 6, 6), BFLOAT16)],  # in planes
        [],
        [*right, *right],
    ):
        with pytest.raises(ValueError, match="out must be writable"):
            plan(given, out=wrong)
