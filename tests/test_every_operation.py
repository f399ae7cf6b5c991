"""What every registered operation promises, whatever its family."""

from __future__ import annotations

import inspect
from importlib import import_module

import numpy as np
import pytest
from _examples import example
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import _cpu
from medseg_fast._dispatch import OPERATIONS, specs_of
from medseg_fast.nn import functional

EVERY = pytest.mark.parametrize("name", sorted(OPERATIONS))


def arrays_of(result):
    """The result's arrays; other objects are compared by their repr."""
    if isinstance(result, (tuple, list)):
        return [array for each in result for array in arrays_of(each)]
    if isinstance(result, (np.ndarray, np.generic, int, float)):
        return [np.asarray(result)]
    return [np.asarray(repr(result))]


def assert_same(got, expected):
    got, expected = arrays_of(got), arrays_of(expected)
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype
        assert one.shape == other.shape
        assert one.tobytes() == other.tobytes()


def of_networks(name):
    """Whether an operation is one of `medseg_fast.nn.functional`."""
    return OPERATIONS[name].body.__module__.startswith("medseg_fast.nn.")


def home_of(name):
    """The module that an operation is public in."""
    if of_networks(name):
        return functional
    return ms.metrics if OPERATIONS[name].body.__module__.startswith("medseg_fast.metrics.") else ms


@EVERY
def test_is_public_documented_and_typed(name):
    function = OPERATIONS[name].function
    home = home_of(name)
    assert name in home.__all__
    assert getattr(home, name) is function
    sections = ("Parameters\n", "Returns\n", "Notes\n")
    assert all(section in function.__doc__ for section in sections)
    signature = inspect.signature(function)
    assert signature.return_annotation is not signature.empty
    assert all(p.annotation is not p.empty for p in signature.parameters.values())


@EVERY
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_all_builds_give_the_same_bytes_networks_nearly(name, dtype, monkeypatch):
    args, kwargs = example(name, dtype)
    modules = [m for n, m in __import__("sys").modules.items() if n.startswith("medseg_fast")]
    results = []
    for isa in filter(_cpu.runnable, _cpu.builds()):
        core = import_module(f"medseg_fast._core_{isa}")
        for module in modules:
            if hasattr(module, "core"):
                monkeypatch.setattr(module, "core", core)
        results.append(OPERATIONS[name].function(*args, **kwargs))
    for result in results[1:]:
        if of_networks(name):  # sums in vectors of another width
            for one, other in zip(arrays_of(result), arrays_of(results[0]), strict=True):
                assert_allclose(one, other, rtol=1e-5, atol=1e-5)
        else:
            assert_same(result, results[0])


@EVERY
def test_result_does_not_depend_on_threads(name):
    args, kwargs = example(name)
    results = []
    for n in (1, 2, 7):
        with ms.num_threads(n):
            results.append(OPERATIONS[name].function(*args, **kwargs))
    for result in results[1:]:
        assert_same(result, results[0])


@EVERY
def test_input_may_be_read_only_and_is_left_alone(name):
    args, kwargs = example(name)
    given = [a for a in (*args, *kwargs.values()) if isinstance(a, np.ndarray)]
    before = [a.copy() for a in given]
    expected = OPERATIONS[name].function(*args, **kwargs)
    for array, copy in zip(given, before, strict=True):
        assert_array_equal(array, copy)
        array.flags.writeable = False
    assert_same(OPERATIONS[name].function(*args, **kwargs), expected)


@EVERY
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_result_is_what_tracing_is_told(name, dtype):
    op = OPERATIONS[name]
    if op.result is None:
        return  # not traceable
    args, kwargs = example(name, dtype)
    told = specs_of(op.result(*args, **kwargs))
    result = arrays_of(OPERATIONS[name].function(*args, **kwargs))
    assert [(r.shape, r.dtype) for r in result] == [(tuple(s), np.dtype(d)) for s, d in told]


def has_out(name):
    """Whether an operation on images takes an `out`."""
    return "out" in inspect.signature(OPERATIONS[name].body).parameters and not of_networks(name)


def sharing(array, result, shift):
    """A copy of `array` and an array like `result`, `shift` bytes on in the same memory."""
    memory = np.zeros(max(array.nbytes, result.nbytes) + 64, np.uint8)

    def view(like, start):
        return memory[start : start + like.nbytes].view(like.dtype).reshape(like.shape)

    given = view(array, max(0, -shift))
    given[...] = array
    return given, view(result, max(0, shift))


@pytest.mark.parametrize("name", [name for name in sorted(OPERATIONS) if has_out(name)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("shift", [0, 64, -64])
def test_out_may_share_memory_with_an_input(name, dtype, shift):
    function = OPERATIONS[name].function
    signature = inspect.signature(function)
    args, kwargs = example(name, dtype)
    if "mask" in signature.parameters and signature.parameters["mask"].default is None:
        kwargs["mask"] = np.indices(args[0].shape)[0] > 2
    call = signature.bind(*args, **kwargs)
    result = function(*args, **kwargs)
    expected = result[0] if isinstance(result, tuple) else result
    for parameter, array in list(call.arguments.items()):
        if isinstance(array, np.ndarray):
            shared, out = sharing(array, expected, shift)
            call.arguments |= {parameter: shared, "out": out}
            function(*call.args, **call.kwargs)
            call.arguments[parameter] = array
            assert_same(out, expected)
