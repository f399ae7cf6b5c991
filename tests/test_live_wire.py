"""Live-wire: costs of steps, laziness, editing, the mask, threads, interruption."""

from __future__ import annotations

import itertools
import threading

import numpy as np
import pytest
from _memory import peak_bytes_per_pixel
from conftest import DTYPES, LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from test_threads import run_python

import medseg_fast as ms
from medseg_fast import live_wire, reference


def disc(shape=(60, 70), center=(30, 35), radius=18, noise=0.0, dtype=np.float64):
    rows, columns = np.indices(shape)
    inside = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 <= radius**2
    image = 100.0 * inside + np.random.default_rng(3).normal(0, 1, shape) * noise
    return image.astype(dtype), inside


def on_circle(n, center=(30, 35), radius=18):
    angles = 2 * np.pi * np.arange(n) / n
    rows, columns = center[0] + radius * np.sin(angles), center[1] + radius * np.cos(angles)
    return [(round(r), round(c)) for r, c in zip(rows, columns, strict=True)]


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (2.0, 0.7)])
@pytest.mark.parametrize("weights", [live_wire.WEIGHTS, (0.3, 0.7, 0.0), (0.0, 0.0, 1.0)])
def test_costs_equal_the_twin(rng, spacing, weights):
    image = rng.random((9, 11))
    image[:, :4] += 2
    wire = ms.LiveWire(image, spacing=spacing, sigma=1, weights=weights)
    wire.seed((2, 3))
    local, gradient = live_wire.edge_costs(image, spacing, 1.0, weights)
    expected = reference.live_wire.least_cost(local, gradient, (2, 3), spacing, weights[2])
    got = np.array([wire.cost(index) for index in np.ndindex(*image.shape)])
    # Angles are float32 in the kernel's table.
    assert_allclose(got.reshape(image.shape), expected, rtol=2e-6, atol=1e-6)
    path = wire.path((8, 10))
    steps = [
        reference.live_wire.step_cost(local, gradient, tuple(p), tuple(q), spacing, weights[2])
        for p, q in itertools.pairwise(path)
    ]
    assert_allclose(sum(steps), wire.cost((8, 10)), rtol=2e-6)


def test_local_costs_are_low_on_edges_only():
    image, inside = disc()
    costs, _ = live_wire.edge_costs(image, (1, 1), 1.5, live_wire.WEIGHTS)
    edge = ms.find_boundaries(inside)
    assert costs.min() >= 0
    assert costs[~ms.binary_dilation(edge, np.ones((9, 9)))].min() > 0.5
    assert np.median(costs[edge]) < 0.2


@pytest.mark.parametrize("noise", [0, 15])
def test_a_disc_from_five_clicks(noise):
    image, inside = disc(noise=noise)
    wire = ms.LiveWire(image)
    for point in on_circle(5):
        wire.seed(point)
    contour = wire.close()
    assert wire.closed
    assert ms_dice(wire.mask(), inside) > 0.95
    assert len(np.unique(contour, axis=0)) > 80
    around = np.concatenate([contour, contour[:1]])
    assert np.abs(np.diff(around, axis=0)).max() == 1
    assert wire.mask()[tuple(contour.T)].all()


def ms_dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


def test_own_costs_give_the_paths_of_route_through_array(rng):
    for shape in ((40, 50), (9, 10, 11), (30,)):
        costs = rng.integers(1, 9, shape).astype(np.uint8)
        wire = ms.LiveWire.from_costs(costs)
        start = tuple(n // 3 for n in shape)
        wire.seed(start)
        for _ in range(12):
            end = tuple(int(rng.integers(0, n)) for n in shape)
            path, cost = ms.route_through_array(costs, start, end)
            assert_array_equal(wire.path(end), path)
            assert wire.cost(end) == cost


def test_pieces_of_the_search_do_not_show(rng):
    costs = rng.integers(0, 5, (60, 50)).astype(np.float32)
    whole, pieces = ms.LiveWire.from_costs(costs), ms.LiveWire.from_costs(costs)
    for wire in (whole, pieces):
        wire.seed((30, 25))
    assert whole.expand()
    assert whole.expand()
    while not pieces.expand(max_pixels=int(rng.integers(0, 90))):
        pieces.path((30 + int(rng.integers(-5, 5)), 25))
        pieces.expand(max_seconds=0)
    for index in np.ndindex(*costs.shape):
        assert_array_equal(whole.path(index), pieces.path(index))
        assert whole.cost(index) == pieces.cost(index)


def test_the_search_goes_only_as_far_as_asked():
    wire = ms.LiveWire.from_costs(np.ones((400, 400)))
    wire.seed((200, 200))
    wire.path((200, 203))
    assert not wire.expand(max_pixels=100)
    assert not wire.expand(max_seconds=0.0)
    assert wire.expand()


def test_undo_and_reopening():
    image, _ = disc()
    points = on_circle(4)
    wire = ms.LiveWire(image)
    contours = []
    for point in points:
        wire.seed(point)
        contours.append(wire.contour())
    assert wire.anchors == points
    wire.close()
    with pytest.raises(ValueError, match="closed"):
        wire.seed((0, 0))
    with pytest.raises(ValueError, match="open contour"):
        wire.close()
    assert wire.undo() is None
    assert not wire.closed
    for n in range(len(points) - 1, 0, -1):
        assert_array_equal(wire.contour(), contours[n])
        live = wire.path((5, 5))
        assert tuple(live[0]) == points[n]
        assert wire.undo() == points[n]
    assert wire.undo() == points[0]
    assert wire.contour().shape == (0, 2)
    with pytest.raises(ValueError, match="no anchor"):
        wire.undo()
    wire.seed((1, 1))
    assert wire.contour().tolist() == [[1, 1]]


def test_a_new_seed_forgets_the_old_search(rng):
    costs = rng.random((70, 90))
    wire = ms.LiveWire.from_costs(costs)
    for start in ((3, 4), (60, 80), (30, 30)):
        wire.seed(start)
        wire.expand(max_pixels=1000)
        path, cost = ms.route_through_array(costs, start, (50, 10))
        assert_array_equal(wire.path((50, 10)), path)
        assert wire.cost((50, 10)) == cost


def test_mask_out_and_crossing_contours():
    wire = ms.LiveWire.from_costs(np.ones((20, 20)))
    for point in ((3, 3), (10, 10), (3, 10), (10, 3)):  # a bow tie
        wire.seed(point)
    wire.close()
    mask = wire.mask()
    assert mask[4, 3]
    assert mask[4, 10]
    assert not mask[3, 6]
    out = np.ones((20, 20), bool).T
    assert wire.mask(out=out) is out
    assert_array_equal(out, mask)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(dtype):
    image, _ = disc(dtype=np.float64)
    image = (image > 50).astype(dtype) * dtype.type(1 if dtype.kind == "b" else 100)
    wire = ms.LiveWire(image)
    for point in on_circle(6):
        wire.seed(point)
    wire.close()
    assert 900 < np.count_nonzero(wire.mask()) < 1150


def test_every_layout():
    image, _ = disc(noise=5, dtype=np.float32)
    paths = []
    for layout in LAYOUTS.values():
        wire = ms.LiveWire(layout(image))
        wire.seed((12, 35))
        paths.append(wire.path((48, 35)))
    for path in paths[1:]:
        assert_array_equal(path, paths[0])


@pytest.mark.parametrize("shape", [(20,), (8, 9, 10), (1, 7), (7, 1), (1, 1), (3, 3, 3, 3)])
def test_every_rank(rng, shape):
    wire = ms.LiveWire(rng.random(shape))
    first, last = (0,) * len(shape), tuple(n - 1 for n in shape)
    wire.seed(first)
    path = wire.path(last)
    assert tuple(path[0]) == first
    assert tuple(path[-1]) == last


def test_nan_is_avoided(rng):
    image = rng.random((40, 40))
    image[10, 10] = np.nan
    wire = ms.LiveWire(image, sigma=1)
    wire.seed((0, 0))
    path = wire.path((20, 20))
    assert [10, 10] not in path.tolist()
    with pytest.raises(ValueError, match="no path leads"):
        wire.path((10, 10))
    assert wire.cost((10, 10)) == np.inf
    wire.path((39, 39))


def test_flat_images_give_straight_paths():
    wire = ms.LiveWire(np.zeros((30, 30)))
    wire.seed((5, 5))
    assert_array_equal(wire.path((5, 20))[:, 0], 5)


def test_two_threads_may_use_one_object(rng):
    costs = rng.random((150, 150))
    wire = ms.LiveWire.from_costs(costs)
    wire.seed((75, 75))
    failures = []

    def work(seed):
        own = np.random.default_rng(seed)
        try:
            for i in range(150):
                point = tuple(int(k) for k in own.integers(0, 150, 2))
                path = wire.path(point)
                if tuple(path[-1]) != point:
                    failures.append(point)
                if i % 40 == 7:
                    wire.seed(point)
                    wire.expand(max_pixels=500)
                if i % 40 == 27 and len(wire.anchors) > 1:
                    wire.undo()
        except Exception as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures


def test_ctrl_c_leaves_a_search_that_goes_on():
    code = """
        import signal, threading, time
        import numpy as np, medseg_fast as ms
        signal.signal(signal.SIGINT, signal.default_int_handler)
        costs = np.random.default_rng(0).random((1500, 1500))
        wire = ms.LiveWire.from_costs(costs)
        wire.seed((700, 700))
        threading.Timer(0.02, lambda: signal.raise_signal(signal.SIGINT)).start()
        try:
            wire.expand()
            print("finished")
        except KeyboardInterrupt:
            print("stopped")
        path, _ = ms.route_through_array(costs, (700, 700), (3, 4))
        print(np.array_equal(wire.path((3, 4)), path))
    """
    assert run_python(code).split() == ["stopped", "True"]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ms.LiveWire([[1j]]), TypeError, "image must"),
        (lambda: ms.LiveWire(np.eye(3), weights=(1, 2)), ValueError, "weights must be three"),
        (lambda: ms.LiveWire(np.eye(3), weights=(1, -2, 1)), ValueError, "weights must be three"),
        (lambda: ms.LiveWire(np.eye(3), sigma=-1), ValueError, "sigma must"),
        (lambda: ms.LiveWire(np.eye(3), spacing=(1,)), ValueError, "spacing must"),
        (lambda: ms.LiveWire.from_costs(np.ones(())), ValueError, "at least one dimension"),
        (lambda: ms.LiveWire(np.eye(3)).path((0, 0)), ValueError, "an anchor must be set"),
        (lambda: ms.LiveWire(np.eye(3)).expand(), ValueError, "an anchor must be set"),
        (lambda: ms.LiveWire(np.eye(3)).cost((0, 0)), ValueError, "an anchor must be set"),
        (lambda: ms.LiveWire(np.eye(3)).close(), ValueError, "two anchors"),
        (lambda: ms.LiveWire(np.eye(3)).mask(), ValueError, "closed first"),
        (lambda: ms.LiveWire(np.ones((3, 3, 3))).mask(), ValueError, "must be 2D"),
        (lambda: ms.LiveWire(np.eye(3)).seed((3, 0)), ValueError, "point must lie within"),
        (lambda: ms.LiveWire(np.eye(3)).seed((0.0, 0)), TypeError, "point must be an integer"),
        (lambda: seeded().expand(max_seconds=-1), ValueError, "max_seconds must"),
        (lambda: seeded().expand(max_pixels=-1), ValueError, "max_pixels must"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


def seeded():
    wire = ms.LiveWire(np.eye(5))
    wire.seed((0, 0))
    return wire


@pytest.mark.parametrize(("dtype", "most"), [("float32", 34), ("uint8", 58)])
def test_peak_memory(dtype, most):
    setup = f"image = (200 * np.random.default_rng(0).random((2000, 2000))).astype(np.{dtype})"
    call, warm = "ms.LiveWire(image)", "ms.LiveWire(image[:50])"
    assert peak_bytes_per_pixel(call, setup=setup, warm=warm) < most + 0.5
    call = "(wire.seed((9, 9)), wire.expand())"
    assert peak_bytes_per_pixel(call, setup=f"{setup}; wire = ms.LiveWire(image)") < 1.5
