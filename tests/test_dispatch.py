"""The caller's kind of array comes back; what cannot be served is named."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import medseg_fast
import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS, specs_of

IMAGE = np.arange(12.0).reshape(3, 4)


class Standard:
    """A CPU array of another library of the array API standard."""

    def __init__(self, array, device=1):
        self.array, self.device = array, f"device {device}"
        self._device = device

    @staticmethod
    def from_dlpack(value):
        return Standard(np.from_dlpack(value))

    def __array_namespace__(self, api_version=None):
        return Standard

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self._device, 0)


def test_array_api_array_comes_back_as_its_own_kind():
    mask = ms.threshold(Standard(IMAGE), 5)
    assert type(mask) is Standard
    assert_array_equal(mask.array, IMAGE >= 5)


def test_array_api_array_on_another_device_is_refused():
    message = "threshold: no implementation for Standard on device 2"
    with pytest.raises(NotImplementedError, match=message):
        ms.threshold(Standard(IMAGE, device=2), 5)


def test_array_api_array_as_keyword_or_number():
    assert type(ms.threshold(image=Standard(IMAGE), t=5)) is Standard
    assert type(ms.threshold(IMAGE, Standard(np.array(5.0)))) is Standard


def test_anything_with_array_protocol():
    class Wrapped:
        def __array__(self, dtype=None, copy=None):
            return IMAGE

    mask = ms.threshold(Wrapped(), 5)
    assert type(mask) is np.ndarray
    assert_array_equal(mask, IMAGE >= 5)


@pytest.mark.parametrize("make", [np.ndarray.tolist, tuple, memoryview, np.asmatrix])
def test_sequences_buffers_and_subclasses_give_plain_arrays(make):
    mask = ms.threshold(make(IMAGE), 5)
    assert type(mask) is np.ndarray
    assert_array_equal(mask, IMAGE >= 5)


def test_memory_mapped_image(tmp_path):
    image = np.memmap(tmp_path / "image", np.int16, "w+", shape=(5, 6))
    image[2:] = 9
    assert ms.threshold(image, 5).sum() == 18


@pytest.mark.parametrize(
    ("value", "error"),
    [("scan.nii", TypeError), (None, TypeError), ([[1], [1, 2]], ValueError), ({1}, TypeError)],
    ids=str,
)
def test_what_is_no_image_is_refused(value, error):
    with pytest.raises(error):
        ms.threshold(value, 1)


@pytest.fixture
def cupy_array(monkeypatch):
    """A stand-in that only looks like CuPy's: this machine may have none."""
    ndarray = type("ndarray", (), {"__module__": "cupy", "__dlpack__": lambda self: None})

    class CUDARuntimeError(RuntimeError):
        pass

    def count():
        raise CUDARuntimeError("cudaErrorInsufficientDriver")

    runtime = types.SimpleNamespace(CUDARuntimeError=CUDARuntimeError, getDeviceCount=count)
    cuda = types.SimpleNamespace(runtime=runtime)
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(ndarray=ndarray, cuda=cuda))
    monkeypatch.delitem(sys.modules, "medseg_fast._cupy", raising=False)
    monkeypatch.delattr(medseg_fast, "_cupy", raising=False)
    return ndarray()


def test_cupy_arrays_are_not_copied_to_the_host_in_silence(cupy_array):
    message = r"threshold_local: no implementation for CuPy arrays; pass image\.get\(\)"
    with pytest.raises(NotImplementedError, match=message):
        ms.threshold_local(cupy_array, 3)


def test_gpu_without_a_driver_is_said_so(cupy_array):
    message = "threshold: no GPU to run on: the CUDA driver is missing or too old"
    with pytest.raises(RuntimeError, match=message):
        ms.threshold(cupy_array, 1)


def test_specs_of_tells_one_result_from_several():
    one, pair = ((2, 3), bool), (((2, 3), bool), ((), float))
    assert specs_of(one) == [one]
    assert specs_of(pair) == list(pair)
    assert specs_of(((), float)) == [((), float)]


def test_operations_keep_their_names():
    assert all(op.function.__name__ == name for name, op in OPERATIONS.items())
