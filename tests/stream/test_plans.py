"""Plans give what the operations give that they are made of."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

import medseg_fast as ms
from medseg_fast.stream import (
    EdgePlan,
    GraphCutPlan,
    LargestPlan,
    NetworkPlan,
    Pipeline,
    RegionGrowPlan,
    SmoothPlan,
    ThresholdPlan,
    WatershedPlan,
)

DTYPES = [np.uint8, np.int16, np.uint16, np.float32, np.float64]


@pytest.fixture(params=DTYPES, ids=lambda d: np.dtype(d).name)
def images(request, rng):
    smooth = ndimage.gaussian_filter(rng.random((3, 30, 41)), (0, 2, 2))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return (smooth * 200).astype(request.param)


def test_equal_to_the_operations(images):
    shape, dtype = images.shape[1:], images.dtype
    markers = np.zeros(shape, np.int32)
    markers[3, 4], markers[20, 30] = 1, 2
    plans = {
        ThresholdPlan(shape, dtype, 90, 150): lambda a: ms.threshold(a, 90, 150),
        ThresholdPlan(shape, dtype): lambda a: a > ms.threshold_otsu(a),
        ThresholdPlan(shape, dtype, "otsu", 180): lambda a: (a > ms.threshold_otsu(a)) & (a <= 180),
        ThresholdPlan(shape, dtype, 90, largest=True): lambda a: ms.largest_component(
            ms.threshold(a, 90)
        ),
        RegionGrowPlan(shape, dtype, (10, 10), 50, 150): lambda a: ms.connected_threshold(
            a, (10, 10), 50, 150
        ),
        WatershedPlan(shape, dtype, markers): lambda a: ms.watershed(
            ms.morphological_gradient(a), markers
        ),
        EdgePlan(shape, dtype, sigma=1.5): lambda a: ms.canny(a, 1.5),
        SmoothPlan(shape, dtype, 1.5): lambda a: ms.gaussian(
            a, 1.5, preserve_range=True, dtype=np.float32
        ),
    }
    for plan, expected in plans.items():
        before = None
        for image in images:
            found = plan(image)
            np.testing.assert_array_equal(found, expected(image), err_msg=repr(plan))
            assert before is None or found is before  # one output, used again
            before = found
        assert eval(repr(plan).split("(")[0]) is type(plan)
        assert (plan.shape, plan.dtype) == (shape, dtype)


def test_largest(rng):
    mask = rng.random((20, 20)) > 0.5
    np.testing.assert_array_equal(
        LargestPlan((20, 20), connectivity=1)(mask), ms.largest_component(mask, 1)
    )


def test_markers_may_change(rng):
    image = rng.integers(0, 255, (12, 13), np.uint8)
    first = np.zeros((12, 13), np.int32)
    first[1, 1] = 5
    plan = WatershedPlan((12, 13), np.uint8, first)
    assert (plan(image) == 5).all()
    second = np.zeros((12, 13), np.int16)
    second[2, 2] = 7
    plan.set_markers(second)
    assert (plan(image) == 7).all()
    assert plan(image).dtype == np.int16
    second[2, 2] = 9  # the plan has a copy
    assert (plan(image) == 7).all()
    with pytest.raises(ValueError, match="markers must be integers of shape"):
        plan.set_markers(second[:5])


@pytest.mark.parametrize("classes", [1, 2, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_network(classes, dtype, rng):
    image = (rng.random((9, 11)) * 100).astype(dtype)
    weights = np.linspace(-1, 1, classes, dtype=np.float32)[None, :, None, None]
    seen = []

    def network(x):
        seen.append(x.copy())
        return (x - 0.2) * weights if classes > 1 else x - 0.2

    plan = NetworkPlan((9, 11), dtype, network, intensities=(10, 110))
    found = plan(image)
    scaled = (image.astype(np.float32) - 10) / 100
    np.testing.assert_allclose(seen[0][0, 0], scaled, atol=1e-6)
    x = seen[0][0, 0] - 0.2
    expected = x > 0 if classes == 1 else (x * weights[0]).argmax(0)
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.uint8


def test_network_of_colours_and_its_range(rng):
    image = rng.integers(0, 256, (5, 6, 3), np.uint8)
    plan = NetworkPlan((5, 6, 3), np.uint8, lambda x: x)
    np.testing.assert_array_equal(plan(image), image.argmax(-1))
    with pytest.raises(ValueError, match=r"must return \(1, classes, 5, 6\), got \(1, 3, 5\)"):
        NetworkPlan((5, 6, 3), np.uint8, lambda x: x[..., 0])(image)
    with pytest.raises(TypeError, match="network must be callable"):
        NetworkPlan((5, 6), np.uint8, 3)


def test_network_of_many_classes(rng):
    logits = rng.random((1, 300, 5, 6), np.float32)
    plan = NetworkPlan((5, 6), np.uint8, lambda x: logits)
    np.testing.assert_array_equal(plan(np.zeros((5, 6), np.uint8)), logits[0].argmax(0))


def optimized(shape, classes):
    """A small network of ours, if PyTorch is there."""
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Conv2d(1, classes, 3, padding=1), torch.nn.ReLU())
    return ms.nn.optimize(model.eval(), torch.zeros(1, 1, *shape))


def test_network_of_patches():
    """What `StructuredLoss` learns are no classes of pixels."""

    def network(x):
        return np.zeros((1, 9, 4, 5), np.float32)

    network.metadata = {"structured": 3}
    with pytest.raises(ValueError, match="network must label pixels, not patches"):
        NetworkPlan((4, 5), np.uint8, network)


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_network_writes_to_kept_logits(classes, rng):
    network = optimized((33, 40), classes)
    images = rng.integers(0, 256, (3, 33, 40), np.uint8)
    kept = NetworkPlan((33, 40), np.uint8, network)
    anew = NetworkPlan((33, 40), np.uint8, lambda x: network(x))
    for image in images:
        np.testing.assert_array_equal(kept(image), anew(image))


SCENE = (400, 500)
SEEDS = np.zeros(SCENE, np.int32)
SEEDS[10, 10], SEEDS[200, 300] = 1, 2
PLANS = [
    lambda: SmoothPlan(SCENE, np.uint8, 1.5),
    lambda: ThresholdPlan(SCENE, np.uint8, 100, 200, largest=True),
    lambda: ThresholdPlan(SCENE, np.uint8, "otsu", 200),
    lambda: EdgePlan(SCENE, np.uint8),
    lambda: RegionGrowPlan(SCENE, np.uint8, (5, 5), 0, 255),
    lambda: WatershedPlan(SCENE, np.uint8, SEEDS),
    lambda: GraphCutPlan(SCENE, np.uint8, SEEDS == 1, SEEDS == 2),
    lambda: NetworkPlan(SCENE, np.uint8, optimized(SCENE, 2)),
    lambda: NetworkPlan(SCENE, np.uint8, optimized(SCENE, 4)),
]


@pytest.mark.parametrize("make", PLANS)
def test_no_array_per_frame(make, rng):
    plan = make()
    images = rng.integers(0, 256, (3, *SCENE), np.uint8)
    plan(images[0])
    tracemalloc.start()
    for image in images:
        plan(image)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < images[0].nbytes / 2


def test_what_does_not_fit_a_plan():
    plan = ThresholdPlan((4, 5), np.uint8, 10)
    for wrong in (np.zeros((5, 4), np.uint8), np.zeros((4, 5), np.int8)):
        with pytest.raises(ValueError, match=r"must have shape \(4, 5\) and dtype uint8, got"):
            plan(wrong)
    with pytest.raises(TypeError, match="ThresholdPlan: dtype must be"):
        ThresholdPlan((4, 5), complex)
    with pytest.raises(ValueError, match="ThresholdPlan: shape must be"):
        ThresholdPlan((0, 5), np.uint8)
    with pytest.raises(ValueError, match="threshold must be a number or 'otsu', got 'li'"):
        ThresholdPlan((4, 5), np.uint8, "li")
    with pytest.raises(TypeError, match="ThresholdPlan: threshold must be a number, got None"):
        ThresholdPlan((4, 5), np.uint8, None)
    with pytest.raises(ValueError, match="ThresholdPlan: threshold must be a number, got NaN"):
        ThresholdPlan((4, 5), np.uint8, np.nan)
    with pytest.raises(TypeError, match="ThresholdPlan: upper must be a number"):
        ThresholdPlan((4, 5), np.uint8, "otsu", "high")
    with pytest.raises(ValueError, match="lower must not exceed upper"):
        ThresholdPlan((4, 5), np.uint8, 5, 3)
    with pytest.raises(ValueError, match="seed"):
        RegionGrowPlan((4, 5), np.uint8, (9, 9), 0, 1)
    with pytest.raises(ValueError, match="connectivity must be from 1 to 2, got 5"):
        LargestPlan((4, 5), connectivity=5)
    for options in ({"connectivity": 7}, {"size": 0}):
        with pytest.raises(ValueError, match="must be"):
            WatershedPlan((4, 5), np.uint8, np.ones((4, 5), int), **options)


def test_a_limit_that_no_float_holds():
    image = np.array([2**53, 2**53 + 1])
    assert ThresholdPlan((2,), np.int64, 2**53 + 1)(image).tolist() == [False, True]


def seeds_of(images):
    inside = images[0] > np.quantile(images[0], 0.9)
    return inside, images[0] < np.quantile(images[0], 0.5)


@pytest.mark.parametrize("options", [{}, {"connectivity": 2, "sigma": 8}, {"spacing": (1, 0.3)}])
def test_cut_does_not_depend_on_the_frames_before(images, options):
    inside, outside = seeds_of(images)
    plan = GraphCutPlan(images.shape[1:], images.dtype, inside, outside, **options)
    for image in [*images, images[0]]:
        found = plan(image).copy()
        fresh = GraphCutPlan(images.shape[1:], images.dtype, inside, outside, **options)
        fresh.learn(images[0], inside, outside)
        np.testing.assert_array_equal(found, fresh(image))
        assert found[inside].all()
        assert not found[outside].any()
    # But for rounded capacities.
    whole = ms.graph_cut(images[0], inside, outside, **options)
    assert (found != whole).mean() < 0.005


def test_cut_equals_a_network_of_its_costs(images):
    """The energy, written out with NumPy and SciPy's maximum flow."""
    sparse = pytest.importorskip("scipy.sparse")
    inside, outside = seeds_of(images)
    plan = GraphCutPlan(images.shape[1:], images.dtype, inside, outside, region=None, sigma=10)
    found = plan(images[1])
    image = images[1].astype(np.float64)
    number = np.arange(image.size).reshape(image.shape)
    far = 10**8
    ends, capacities = [], []
    for axis in (0, 1):
        here = np.delete(number, -1, axis).ravel()
        there = np.delete(number, 0, axis).ravel()
        squares = np.diff(image, axis=axis).ravel() ** 2
        weights = np.rint(4096 * 4 * np.pi / 4 * np.exp(-squares / 200)).astype(np.int32)
        ends += [(here, there), (there, here)]
        capacities += [weights, weights]
    for mask, source in ((inside, True), (outside, False)):
        at = number[mask]
        pole = np.full(at.size, image.size if source else image.size + 1)
        ends.append((pole, at) if source else (at, pole))
        capacities.append(np.full(at.size, far, np.int32))
    rows, columns = (np.concatenate(e) for e in zip(*ends, strict=True))
    n = image.size + 2
    graph = sparse.csr_array((np.concatenate(capacities), (rows, columns)), (n, n))
    flow = sparse.csgraph.maximum_flow(graph, n - 2, n - 1).flow_value
    side = np.append(found.ravel(), [True, False])
    parted = graph.tocoo()
    cost = parted.data[side[parted.coords[0]] & ~side[parted.coords[1]]].sum()
    assert cost == pytest.approx(flow, rel=1e-4)  # exp to 1e-6, then rounded


def test_seeds_of_a_cut_may_change(images):
    inside, outside = seeds_of(images)
    plan = GraphCutPlan(images.shape[1:], images.dtype, inside, outside)
    first = plan(images[0]).copy()
    plan.set_seeds(background=~inside)
    np.testing.assert_array_equal(plan(images[0]), inside)
    plan.set_seeds(background=outside)
    np.testing.assert_array_equal(plan(images[0]), first)
    with pytest.raises(ValueError, match=r"background_seeds must have shape \(30, 41\)"):
        plan.set_seeds(background=outside[1:])
    with pytest.raises(ValueError, match="seeds must have no pixel in common"):
        plan.set_seeds(background=inside)


def test_a_cut_in_a_pipeline_learns_from_the_first_frame(images):
    """Not from the empty image of the warm-up; what `learn` was told stays."""
    inside, outside = seeds_of(images)
    for told in (False, True):
        plans = [GraphCutPlan(images.shape[1:], images.dtype, inside, outside) for _ in range(2)]
        if told:
            for plan in plans:
                plan.learn(images[2], inside, ~inside)
        results = []
        Pipeline(images, [plans[0], np.copy], results.append, policy="all").run()
        for result, image in zip(results, images, strict=True):
            np.testing.assert_array_equal(result.mask, plans[1](image))


def test_words_for_the_log(tmp_path):
    """Tell apart what gives other masks, and say the same in the next run."""
    seeds = np.eye(6, 8, dtype=bool)
    nowhere, image = np.zeros((6, 8), bool), np.arange(48, dtype=np.uint8).reshape(6, 8)

    def cut(foreground, learns=False):
        plan = GraphCutPlan((6, 8), np.uint8, foreground, nowhere)
        if learns:
            plan.learn(image, foreground, ~foreground)
        return plan

    plans = [
        ms.CannyPlan((6, 8)),
        ms.CannyPlan((6, 8), sigma=2),
        ms.CannyPlan((6, 8), high_threshold=99),
        WatershedPlan((6, 8), np.uint8, seeds.astype(int)),
        WatershedPlan((6, 8), np.uint8, 2 * seeds.astype(int)),
        cut(seeds),
        cut(~seeds),
        cut(seeds, learns=True),
        NetworkPlan((6, 8), np.uint8, len),
    ]
    words = [repr(plan) for plan in plans]
    assert len(set(words)) == len(words)
    assert not any(" at 0x" in word for word in words)
    assert words[5] == repr(cut(seeds.copy()))


def test_words_for_the_log_of_networks(tmp_path):
    one, other = (optimized((6, 8), 2) for _ in "ab")
    one.save(tmp_path / "one")
    sha = hashlib.sha256((tmp_path / "one").read_bytes()).hexdigest()
    assert sha in repr(NetworkPlan((6, 8), np.uint8, tmp_path / "one"))
    words = [repr(NetworkPlan((6, 8), np.uint8, network)) for network in (one, other, one)]
    assert words[0] == words[2] != words[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lambda_": -1}, "lambda_ must be finite and not negative"),
        ({"lambda_": 1e6}, "lambda_ must be lower"),
        ({"sigma": 0}, "sigma must be positive"),
        ({"connectivity": 3}, "connectivity"),
        ({"region": "gmm"}, 'region must be "histogram" or None'),
        ({"spacing": (1, 0)}, "spacing"),
    ],
)
def test_bad_cuts(options, message):
    mask, one = np.zeros((6, 8), bool), np.eye(6, 8, dtype=bool)
    with pytest.raises(ValueError, match=message):
        GraphCutPlan((6, 8), np.uint8, mask, mask, **options)
    with pytest.raises(ValueError, match="foreground must have at least one pixel"):
        GraphCutPlan((6, 8), np.uint8, mask, ~mask)(np.zeros((6, 8), np.uint8))
    with pytest.raises(ValueError, match="image must be finite"):
        GraphCutPlan((6, 8), np.float32, one, ~one)(np.full((6, 8), np.nan, np.float32))
