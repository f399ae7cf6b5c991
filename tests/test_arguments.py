"""Messages about arguments name the operation and the argument, whatever was given."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from _examples import example

import medseg_fast as ms
from medseg_fast._dispatch import OPERATIONS

IMAGE = np.arange(30).reshape(5, 6) * 7 % 11
MASK = IMAGE > 4
ANY_CONNECTIVITY = [np.nan, "x", []]
NO_NUMBER = ["x", None, np.nan, np.inf, 10**30, []]


def cases():
    """Operation, arguments, the one that is wrong and its value."""
    for name, image in (("markers_from_minima", IMAGE), ("split_touching", MASK)):
        yield name, (image,), "spacing", 1.0
        yield name, (image,), "spacing", np.array(1.0)
    for value in ANY_CONNECTIVITY:
        yield "local_minima", (IMAGE,), "connectivity", value
        yield "flood", (IMAGE, (0, 0)), "connectivity", value
    for value in NO_NUMBER:
        yield "clear_border", (IMAGE,), "bgval", value
    for value in (v for v in NO_NUMBER if v != []):  # an array would be taken
        yield "flood_fill", (IMAGE, (0, 0)), "new_value", value
    yield "flood_fill", (IMAGE * 1.0, (0, 0)), "new_value", None
    yield "label", (IMAGE,), "background", np.inf
    yield "seeded_region_growing", (IMAGE, MASK), "max_voxels", 10**30
    yield "threshold_li", (IMAGE,), "tolerance", "x"
    yield "threshold_li", (IMAGE,), "initial_guess", "x"
    yield "threshold_li", (IMAGE,), "iter_callback", 3
    yield "threshold_local", (IMAGE, 3), "mode", []
    yield "threshold_local", (IMAGE,), "block_size", np.array("s")
    yield "erosion", (IMAGE,), "mode", []
    for name in ("label", "distance_transform_edt", "signed_distance", "sobel"):
        yield name, (IMAGE,), "dtype", "x"


@pytest.mark.parametrize(("name", "args", "argument", "value"), list(cases()))
def test_message_names_the_argument(name, args, argument, value):
    with pytest.raises((TypeError, ValueError, OverflowError), match=f"^{name}: .*{argument}"):
        getattr(ms, name)(*args, **{argument: value})


def test_any_connectivity_is_taken_as_the_nearest():
    for connectivity, nearest in ((np.inf, 2), (-np.inf, 1), (7, 2), (0, 1)):
        for call in (ms.local_minima, ms.local_maxima):
            expected = call(IMAGE, connectivity=nearest)
            assert (call(IMAGE, connectivity=connectivity) == expected).all()


@pytest.mark.parametrize("name", ["connected_threshold", "flood", "confidence_connected"])
def test_max_voxels_may_be_any_number(name):
    args, kwargs = example(name)
    expected = getattr(ms, name)(*args, **kwargs)
    assert (getattr(ms, name)(*args, **kwargs, max_voxels=10**30) == expected).all()


def test_max_num_iter_may_be_any_number():
    counts = np.array([1, 5, 9, 5, 1, 1, 4, 8, 4, 1])
    expected = ms.threshold_minimum(hist=counts)
    assert ms.threshold_minimum(hist=counts, max_num_iter=10**30) == expected


RAGGED = [[1, 2], [3]]


def of_images(name):
    """Whether an operation takes an array first, and is none of the networks'."""
    own = OPERATIONS[name].body.__module__.startswith("medseg_fast.nn.")
    return not own and isinstance(next(iter(example(name)[0]), None), np.ndarray)


@pytest.mark.parametrize("name", [name for name in sorted(OPERATIONS) if of_images(name)])
def test_message_of_a_ragged_list(name):
    args, kwargs = example(name)
    argument = next(iter(inspect.signature(OPERATIONS[name].body).parameters))
    with pytest.raises(ValueError, match=rf"^\w+: {argument} must be an array"):
        OPERATIONS[name].function(RAGGED, *args[1:], **kwargs)
