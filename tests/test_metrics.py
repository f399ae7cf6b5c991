"""Overlap, partitions, instances, scores: against slow twins, scikit-learn, scikit-image, ITK."""

from __future__ import annotations

import contextlib
import io
import math

import numpy as np
import pytest
from conftest import DTYPES, SHAPES, random_image
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import medseg_fast as ms
from medseg_fast import metrics, reference

LABEL_TYPES = [dtype for dtype in DTYPES if dtype.kind in "bui"]


def _labels(rng, shape, dtype=np.uint8, most=5):
    """Blocks of labels: runs of several lengths."""
    image = np.repeat(rng.integers(0, most, [-(-n // 3) for n in shape]), 3, -1)
    for axis in range(len(shape) - 1):
        image = np.repeat(image, 3, axis)
    return image[tuple(slice(n) for n in shape)].astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_overlap_of_masks(rng, dtype, shape):
    a, b = (random_image(rng, shape, dtype) for _ in range(2))
    both, first, second, neither = reference.metrics.overlap(a, b)
    size = 2 * both + first + second
    assert ms.dice(a, b) == (2 * both / size if size else 1)
    union = both + first + second
    assert ms.jaccard(a, b) == (both / union if union else 1)
    true, found = both + second, both + first
    assert metrics.sensitivity(a, b) == (both / true if true else 1)
    assert metrics.precision(a, b) == (both / found if found else 1)
    rest = neither + first
    assert metrics.specificity(a, b) == (neither / rest if rest else 1)
    assert metrics.accuracy(a, b) == ((both + neither) / a.size if a.size else 1)
    expected = (found - true) / true if true else math.inf if found else 0
    assert metrics.volume_error(a, b) == expected
    total = found + true
    assert metrics.volume_similarity(a, b) == (2 * (found - true) / total if total else 0)


@pytest.mark.parametrize("n", [255 * 64 - 1, 255 * 64, 255 * 64 + 65, (1 << 17) + 3])
@pytest.mark.parametrize("dtype", [bool, np.uint16, np.int64])
def test_overlap_beyond_the_lanes_of_a_block(rng, threads, n, dtype):
    a, b = (rng.random(n) < 0.9 for _ in range(2))
    expected = 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))
    assert ms.dice(a.astype(dtype), b.astype(dtype) * 1) == expected


def test_overlap_of_layouts(rng, layout):
    a, b = (rng.integers(0, 3, (7, 9)).astype(np.int16) for _ in range(2))
    assert ms.dice(layout(a), layout(b)) == ms.dice(a, b)
    assert ms.dice(layout(a), b) == ms.dice(a, b)
    assert ms.jaccard(layout(a), b.astype(np.float32)) == ms.jaccard(a, b)
    assert_array_equal(
        metrics.confusion_matrix(layout(a), layout(b)), metrics.confusion_matrix(a, b)
    )


def test_empty_masks():
    nothing, one = np.zeros((4, 4), bool), np.eye(4, dtype=bool)
    assert ms.dice(nothing, nothing) == ms.jaccard(nothing, nothing) == 1
    assert ms.dice(nothing, one) == ms.jaccard(one, nothing) == 0
    assert metrics.volume_error(nothing, nothing) == 0
    assert metrics.volume_error(one, nothing) == math.inf


@pytest.mark.parametrize("function", [ms.dice, metrics.specificity, metrics.volume_similarity])
def test_overlap_refuses(function):
    with pytest.raises(ValueError, match=r"must have shape \(2,\), got \(3,\)"):
        function([0, 1], [0, 1, 1])
    with pytest.raises(ValueError, match="NaN"):
        function([0, np.nan], [0, 1])
    with pytest.raises(TypeError, match="got complex128"):
        function([1j], [1])


@pytest.mark.parametrize("dtype", LABEL_TYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pairs_of_labels(rng, dtype, shape):
    a, b = random_image(rng, shape, dtype), random_image(rng, shape, dtype)
    twin = reference.metrics.contingency(a, b)
    left, right, count = metrics._pairs.contingency("test", ("a", "b"), a, b)
    assert left.dtype == right.dtype == dtype
    pairs = list(zip(left.tolist(), right.tolist(), strict=True))
    assert pairs == sorted(twin)
    assert dict(zip(pairs, count.tolist(), strict=True)) == dict(twin)


def test_pairs_of_many_labels(rng, threads):
    a, b = (rng.integers(0, 3000, (70, 80, 90), np.int32) for _ in range(2))
    left, right, count = metrics._pairs.contingency("test", ("a", "b"), a, b)
    both, times = np.unique(a.ravel().astype(np.int64) * 3000 + b.ravel(), return_counts=True)
    assert_array_equal(left * np.int64(3000) + right, both)
    assert_array_equal(count, times)


@pytest.mark.parametrize(("first", "second"), [("u1", "i8"), ("i1", "u2"), ("b1", "i4")])
def test_labels_of_two_types(rng, first, second):
    a = rng.integers(0, 2, 50).astype(first)
    b = rng.integers(0, 9, 50).astype(second)
    if first == "i1":
        a[:5] = -3
    left, right, count = metrics._pairs.contingency("test", ("a", "b"), a, b)
    twin = reference.metrics.contingency(a, b)
    assert dict(zip(zip(left.tolist(), right.tolist(), strict=True), count, strict=True)) == twin
    assert left.dtype == a.dtype
    assert right.dtype == b.dtype


@pytest.mark.parametrize("least", [0, -7])
def test_labels_beyond_signed_integers(least):
    large = 2**63 + 5
    a, b = np.array([0, large, large, 3], np.uint64), np.array([0, 3, least, 3])
    for first, second in ((a, b), (b, a)):
        overlap = metrics.label_overlap(first, second)
        expected = sorted({least, 3, large} - {0})
        assert overlap.label.tolist() == expected
        assert all(isinstance(label, int) for label in overlap.label.tolist())
        assert overlap.dice[expected.index(3)] == pytest.approx(2 / 3)
        matrix = metrics.confusion_matrix(first, second, labels=[large, 3])
        assert_array_equal(matrix, [[0, 1], [0, 1]] if first is a else [[0, 0], [1, 1]])
    near = metrics.label_overlap(a >> np.uint64(3), b, labels=[2**60, 2**60 + 1])
    assert near.false_positive.tolist() == [2, 0]
    assert metrics.label_overlap(a[3:], b[3:]).label.dtype == np.int64


def test_confusion_matrix_is_scikit_learns(rng):
    learn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    a, b = _labels(rng, (20, 31, 17)), _labels(rng, (20, 31, 17))
    for labels in (None, [3, 1], [0, 4, 2, 9]):
        expected = learn.confusion_matrix(a.ravel(), b.ravel(), labels=labels)
        assert_array_equal(metrics.confusion_matrix(a, b, labels=labels), expected)
    with pytest.raises(ValueError, match="labels must have one that occurs in y_true"):
        metrics.confusion_matrix(a, b, labels=[77])
    flat = b.ravel() == 2, a.ravel() == 2
    assert metrics.sensitivity(a == 2, b == 2) == pytest.approx(learn.recall_score(*flat))
    assert metrics.precision(a == 2, b == 2) == pytest.approx(learn.precision_score(*flat))


def test_label_overlap_is_simpleitks(rng):
    sitk = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
    a, b = _labels(rng, (20, 31, 17)), _labels(rng, (20, 31, 17))
    ours = metrics.label_overlap(a, b)
    theirs = sitk.LabelOverlapMeasuresImageFilter()
    theirs.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    for i, label in enumerate(ours.label.tolist()):
        assert ours.dice[i] == pytest.approx(theirs.GetDiceCoefficient(label), rel=1e-14)
        assert ours.jaccard[i] == pytest.approx(theirs.GetJaccardCoefficient(label), rel=1e-14)
        missed, wrong = theirs.GetFalseNegativeError(label), theirs.GetFalsePositiveError(label)
        assert ours.sensitivity[i] == pytest.approx(1 - missed, rel=1e-12)
        assert ours.specificity[i] == pytest.approx(1 - wrong, rel=1e-12)
        found, true = a == label, b == label
        assert ours.dice[i] == ms.dice(found, true)
        assert ours.sensitivity[i] == metrics.sensitivity(found, true)
        assert ours.specificity[i] == metrics.specificity(found, true)
        assert ours.precision[i] == metrics.precision(found, true)
        similar = theirs.GetVolumeSimilarity(label)
        assert metrics.volume_similarity(found, true) == pytest.approx(similar, rel=1e-14)
    some = metrics.label_overlap(a, b, labels=[4, 77, 1])
    assert some.label.tolist() == [4, 77, 1]
    assert some.dice.tolist() == [ours.dice[3], 1, ours.dice[0]]
    assert some.true_negative[1] == a.size


def test_labels_must_be_integers():
    with pytest.raises(TypeError, match="pred must be bool or integer labels, got float64"):
        metrics.label_overlap([0.5], [1])
    with pytest.raises(ValueError, match="truth must have shape"):
        metrics.label_overlap([1], [1, 1])
    for function in (metrics.label_overlap, metrics.confusion_matrix):
        with pytest.raises(TypeError, match=f"{function.__name__}: labels must be integers, got 1"):
            function([1], [1], labels=[1.5])
        with pytest.raises(ValueError, match="labels must be a sequence of integers, got 1"):
            function([1], [1], labels=1)
    assert len(metrics.label_overlap([1], [1], labels=[]).dice) == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30))
def test_partitions_by_pairs(pairs):
    a, b = np.array(pairs).T
    both, first, second, neither = reference.metrics.pair_counts(a, b)
    assert metrics.rand_index(a, b) == pytest.approx(
        (both + neither) / (both + first + second + neither)
    )
    error, precision, recall = metrics.adapted_rand_error(a, b, ignore_labels=())
    if 2 * both + first + second:
        assert error == pytest.approx(1 - 2 * both / (2 * both + first + second))
    assert precision == pytest.approx(
        both / (both + first) if both + first else math.nan, nan_ok=True
    )
    assert recall == pytest.approx(
        both / (both + second) if both + second else math.nan, nan_ok=True
    )
    expected = reference.metrics.variation_of_information(a, b)
    assert_allclose(metrics.variation_of_information(a, b), expected, atol=1e-12)


def test_partitions_are_scikit_images(rng):
    peer = pytest.importorskip("skimage.metrics", reason="scikit-image is not installed")
    a, b = _labels(rng, (30, 41), np.int64, 9), _labels(rng, (30, 41), np.int64, 9)
    b[:15] = a[:15]
    for ignore in ((0,), (), (1, 3), None, 0, np.int64(3), np.array([1, 3])):
        assert_allclose(
            metrics.adapted_rand_error(a, b, ignore_labels=ignore),
            peer.adapted_rand_error(a, b, ignore_labels=ignore),
            rtol=1e-12,
        )
        assert_allclose(
            metrics.variation_of_information(a, b, ignore_labels=ignore),
            peer.variation_of_information(a, b, ignore_labels=ignore),
            rtol=1e-12,
        )
    table = peer.contingency_table(a, b, sparse_type="array")
    for given_table in (table, table.toarray()):
        assert_allclose(
            metrics.adapted_rand_error(table=given_table, alpha=0.3),
            peer.adapted_rand_error(table=table, alpha=0.3),
            rtol=1e-12,
        )
    table = peer.contingency_table(a, b, normalize=True, sparse_type="array")
    assert_allclose(
        metrics.variation_of_information(table=table),
        peer.variation_of_information(a, b),
        rtol=1e-12,
    )
    with pytest.raises(ValueError, match="alpha must be from 0 to 1"):
        metrics.adapted_rand_error(a, b, alpha=2)
    with pytest.raises(ValueError, match="must be given where table is not"):
        metrics.variation_of_information(a)


def test_partitions_are_scikit_learns(rng):
    learn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    a, b = _labels(rng, (30, 41)), _labels(rng, (30, 41))
    b[:15] = a[:15]
    ours = metrics.rand_index(a, b), metrics.rand_index(a, b, adjusted=True)
    flat = a.ravel(), b.ravel()
    assert_allclose(ours, (learn.rand_score(*flat), learn.adjusted_rand_score(*flat)), rtol=1e-10)
    assert metrics.rand_index([3], [4]) == metrics.rand_index([3], [4], adjusted=True) == 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_scores(rng, dtype):
    truth = rng.random((20, 30)) < 0.3
    score = (rng.random((20, 30)) * 9 + 4 * truth).astype(dtype)
    assert metrics.roc_auc_score(truth, score) == pytest.approx(
        reference.metrics.roc_auc(truth, score), rel=1e-12
    )
    learn = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    field = rng.random((20, 30)) < 0.8
    for mask in (None, field):
        t, s = (truth, score) if mask is None else (truth[mask], score[mask])
        ours = metrics.roc_auc_score(truth, score, mask=mask)
        assert ours == pytest.approx(learn.roc_auc_score(t.ravel(), s.ravel()), rel=1e-12)
        ours = metrics.average_precision_score(truth, score, mask=mask)
        assert ours == pytest.approx(learn.average_precision_score(t.ravel(), s.ravel()), rel=1e-12)


def test_scores_without_one_side():
    assert math.isnan(metrics.roc_auc_score([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.average_precision_score([0, 0], [0.1, 0.2]))
    with pytest.raises(ValueError, match="y_score must not contain NaN"):
        metrics.roc_auc_score([0, 1], [np.nan, 1])
    with pytest.raises(ValueError, match="mask must have shape"):
        metrics.roc_auc_score([0, 1], [1, 1], mask=[1])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=30))
def test_instances(pairs):
    a, b = np.array(pairs, np.int64).reshape(-1, 2).T
    ours = metrics.instance_average_precision(a, b, [0.55, 0.7, 0.9])
    for threshold in (0.55, 0.7, 0.9):
        expected = reference.metrics.instance_average_precision(a, b, threshold)
        assert ours.at(threshold) == pytest.approx(expected)


def test_instances_of_equal_images_are_perfect(rng):
    image = _labels(rng, (20, 20))
    precision = metrics.instance_average_precision(image, image)
    assert precision.thresholds.tolist() == pytest.approx(np.arange(0.5, 1, 0.05).tolist())
    assert precision.mean == precision.at(0.95) == 1
    with pytest.raises(ValueError, match=r"thresholds must be from 0\.5 to 1"):
        metrics.instance_average_precision(image, image, [0.3])
    with pytest.raises(ValueError, match=r"threshold must be one of 0\.5, 0\.55, .*, got 0\.52"):
        precision.at(0.52)
    assert metrics.instance_average_precision(image, image, [0.6, 0.6]).at(0.6) == 1


def test_mask_precision_by_hand():
    """Two objects: the best mask finds one, the second nothing, the third the other half-way."""
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 2, 2, 0]])
    masks = np.array([truth == 1, truth == 0, truth == 2])
    masks[2, 0, 8] = False  # 3 of 4
    ap = metrics.mask_average_precision([(masks, [0.9, 0.8, 0.7])], [truth], [0.5, 0.8])
    # At 0.5: recall 0.5 with precision 1, recall 1 with precision 2 / 3.
    assert ap.at(0.5) == pytest.approx((51 * 1 + 50 * 2 / 3) / 101)
    assert ap.at(0.8) == pytest.approx(51 / 101)
    one = metrics.mask_average_precision([(masks, [0.9, 0.8, 0.7])], [truth], [0.5], most=1)
    assert one.at(0.5) == pytest.approx(51 / 101)
    nothing = metrics.mask_average_precision([(masks[:0], [])], [truth])
    assert nothing.mean == 0
    assert math.isnan(metrics.mask_average_precision([(masks, [1, 2, 3])], [truth * 0]).mean)
    with pytest.raises(ValueError, match="truths must be 1"):
        metrics.mask_average_precision([(masks, [1, 2, 3])], [])
    for wrong, scores in ((masks.transpose(0, 2, 1), [1, 2, 3]), (masks, [1, 2]), (masks[0], [1])):
        with pytest.raises(ValueError, match=r"masks must have shape \(\d, 1, 10\), as scores"):
            metrics.mask_average_precision([(wrong, scores)], [truth])
    assert metrics.mask_average_precision([([], [])], [truth]).mean == 0
    with pytest.raises(ValueError, match="scores must not be NaN"):
        metrics.mask_average_precision([(masks, [1, np.nan, 3])], [truth])


def test_bootstrap(rng):
    values = rng.normal(0.8, 0.1, 40)
    first = metrics.bootstrap_interval(values, seed=3)
    assert first == metrics.bootstrap_interval(values, seed=3)
    assert first != metrics.bootstrap_interval(values, seed=4)
    assert first.low < first.estimate == values.mean() < first.high
    wide = metrics.bootstrap_interval(values, np.median, level=0.999, seed=3)
    assert wide.high - wide.low > first.high - first.low
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed")
    theirs = stats.bootstrap((values,), np.mean, method="percentile").confidence_interval
    assert_allclose(first[1:], theirs, atol=0.003)  # both are drawn
    assert all(math.isnan(v) for v in metrics.bootstrap_interval([]))
    assert metrics.bootstrap_interval([0.5, np.nan]) == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match="level must be between 0 and 1"):
        metrics.bootstrap_interval([1], level=95)
    with pytest.raises(TypeError, match="statistic must take an array and axis=-1, got <function"):
        metrics.bootstrap_interval(values, lambda x: x.mean())
    with pytest.raises(ValueError, match=r"statistic must give shape \(10,\) of \(10, 40\)"):
        metrics.bootstrap_interval(values, lambda x, axis: x.mean(), resamples=10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_mask_average_precision_is_cocos(seed):
    """Scored masks over several images, some of them alike, some of nothing."""
    mask = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(seed)
    truths, predictions, annotations, results = [], [], [], []
    for image in range(1, rng.integers(2, 5)):
        truth = np.zeros((24, 30), np.int32)
        for number in range(1, rng.integers(2, 8)):
            y, x = rng.integers(0, 20), rng.integers(0, 25)
            truth[y : y + rng.integers(3, 9), x : x + rng.integers(3, 9)] = number
        masks = []
        for number in np.unique(truth[truth > 0]):
            annotations.append(
                {"image_id": image, "number": truth == number, "iscrowd": 0, "category_id": 1}
            )
            for _ in range(rng.integers(0, 3)):
                masks.append(np.roll(truth == number, rng.integers(-2, 3, 2), (0, 1)))
        masks += [rng.random(truth.shape) < 0.1 for _ in range(rng.integers(0, 3))]
        scores = rng.permutation(100)[: len(masks)] / 100
        truths.append(truth)
        predictions.append((np.array(masks).reshape(-1, *truth.shape), scores))
        for one, score in zip(masks, scores, strict=True):
            results.append(
                {"image_id": image, "category_id": 1, "score": float(score), "number": one}
            )
    for k, row in enumerate(annotations + results, 1):
        row["id"] = k
        row["segmentation"] = mask.encode(np.asfortranarray(row.pop("number"), np.uint8))
        row["area"] = float(mask.area(row["segmentation"]))
        row["bbox"] = [0, 0, 1, 1]
    ours = metrics.mask_average_precision(predictions, truths)
    if not results or not annotations:
        assert not annotations or (ours.ap == 0).all()
        return
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [
                {"id": k + 1, "height": t.shape[0], "width": t.shape[1]}
                for k, t in enumerate(truths)
            ],
            "annotations": annotations,
            "categories": [{"id": 1}],
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    # By threshold and recall, of the one class, all areas and a hundred masks at most.
    theirs = evaluation.eval["precision"][:, :, 0, 0, 2].mean(1)
    assert_allclose(ours.ap, theirs, atol=1e-12)
