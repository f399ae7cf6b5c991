"""Reference counts alone free what a call was given and gave.

A cycle (a function within a function that calls itself is one) would hold images until the garbage
collector comes, which a stream keeps out of its frames.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from _examples import example

import medseg_fast.nn.functional  # noqa: F401  (registers its operations)
from medseg_fast._dispatch import OPERATIONS


@pytest.fixture(scope="module", autouse=True)
def _little_to_look_through():
    """A collection looks at what these tests make alone: a tenth of the time."""
    if find_spec("torch"):
        import medseg_fast._torch  # noqa: F401
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@contextmanager
def _no_cycles() -> Iterator[None]:
    """Refuse what only the garbage collector would free."""
    gc.collect()
    gc.disable()
    try:
        yield
        left = gc.collect()
    finally:
        gc.enable()
    assert left == 0


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _leaves(part)
    else:
        yield value


def _watched(values: Any) -> list[Any]:
    """Weak references to the arrays and tensors among the values."""
    return [weakref.ref(v) for v in _leaves(values) if type(v).__name__ in ("ndarray", "Tensor")]


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_call_leaves_no_cycles(name, kind):
    torch = pytest.importorskip("torch") if kind == "torch" else None

    def made(value):
        if isinstance(value, list):
            return [made(each) for each in value]
        return torch.from_numpy(value) if torch and isinstance(value, np.ndarray) else value

    def call():
        args, kwargs = example(name, np.float32)
        args = [made(each) for each in args]
        kwargs = {key: made(each) for key, each in kwargs.items()}
        result = OPERATIONS[name].function(*args, **kwargs)
        return _watched([args, list(kwargs.values()), result])

    call()  # what is made once
    with _no_cycles():
        assert [ref() for ref in call() if ref() is not None] == []


def _network(torch, own):
    """Two layers; the second is one that plans leave to torch, if not `own`."""
    layers = [torch.nn.Conv2d(1, 16, 3, padding=1), torch.nn.ReLU()]
    layers += [] if own else [torch.nn.LPPool2d(2, 2)]
    return torch.nn.Sequential(*layers).eval()


@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("own", [True, False])
def test_a_plan_leaves_no_cycles(own, kind):
    torch = pytest.importorskip("torch")
    from medseg_fast.nn import optimize

    x = torch.rand(1, 1, 32, 32)
    plan = optimize(_network(torch, own), x)
    assert bool(plan.fallbacks) is not own
    given = x.numpy() if kind == "numpy" else x
    plan(given)
    with _no_cycles():
        assert [ref() for ref in _watched([plan(given)]) if ref() is not None] == []


def test_loading_a_plan_leaves_no_cycles(tmp_path):
    torch = pytest.importorskip("torch")
    from medseg_fast.nn import load_plan, optimize

    file = tmp_path / "network.plan"
    optimize(_network(torch, own=True), torch.rand(1, 1, 32, 32)).save(file)
    load_plan(file)
    with _no_cycles():
        load_plan(file)
