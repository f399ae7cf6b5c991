"""What the command line is made of: measurements, pictures, files, rules."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("click", reason="the command line needs the extra io")
Image = pytest.importorskip("PIL.Image", reason="the command line needs the extra io")
# ruff: noqa: E402


from medseg_fast import io
from medseg_fast._app import compare, files, measure, render, rule
from medseg_fast._methods import threshold


def test_measure() -> None:
    labels = np.zeros((4, 5, 6), np.uint8)
    labels[1:3, 2:5, 3] = 2
    image = np.arange(120.0).reshape(4, 5, 6)
    (region,) = measure.measure(labels, (2.0, 1.0, 0.5), image)
    values = image[labels == 2]
    assert region == {
        "label": 2,
        "voxels": 6,
        "volume_mm3": 6.0,
        "extent_mm": [4.0, 3.0, 0.5],
        "box": [[1, 2], [2, 4], [3, 3]],
        "centre": [1.5, 3.0, 3.0],
        "mean": values.mean(),
        "std": round(values.std(), 4),
        "min": values.min(),
        "max": values.max(),
    }


def test_measure_of_many_labels(rng: np.random.Generator) -> None:
    """More labels than are searched for one by one give the same numbers."""
    labels = np.kron(rng.permutation(60).reshape(3, 4, 5), np.ones((2, 3, 2), int))
    labels[rng.random(labels.shape) < 0.2] = 0
    image = rng.normal(size=labels.shape)
    regions = measure.measure(labels, (1.0, 2.0, 3.0), image)
    assert [region["label"] for region in regions] == list(range(1, 60))
    for region in regions:
        (alone,) = measure.measure(labels == region["label"], (1.0, 2.0, 3.0), image)
        assert region == {**alone, "label": region["label"]}


def test_measure_of_odd_intensities_can_be_written_as_json() -> None:
    image = np.array([[np.nan, np.inf], [1.0, -np.inf]])
    (region,) = measure.measure(np.ones((2, 2), bool), (1.0, 1.0), image)
    assert json.loads(json.dumps(region, allow_nan=False))["mean"] is None
    (region,) = measure.measure(np.ones((1, 1), bool), (1.0, 1.0), np.array([[np.nan]]))
    assert region["max"] is None


def test_centre_ignores_stray_pixels() -> None:
    mask = np.zeros((50, 50), bool)
    mask[5:10, 5:10] = mask[49, 49] = True
    assert measure.centre(mask) == (7, 7)
    assert measure.centre(np.zeros((6, 7), bool)) == (3, 3)


@pytest.mark.parametrize(("t", "dtype"), [(3, np.int16), (2.5, np.uint8), (0.25, np.float32)])
def test_split_is_a_strict_comparison(rng: np.random.Generator, t: float, dtype: Any) -> None:
    image = np.where(rng.random((9, 11)) < 0.3, t, rng.normal(t, 2, (9, 11))).astype(dtype)
    assert_array_equal(threshold.split(image, t), image > t)
    assert_array_equal(threshold.split(image, t, dark=True), image <= t)


def test_picture_has_the_scale_of_the_patient() -> None:
    """10 x 20 x 40 mm, whatever the voxels: panels of 20 x 40, 10 x 40 and 10 x 20."""
    volume = io.Volume(np.zeros((2, 20, 10), np.uint8), (5.0, 1.0, 4.0))
    sections = render.sections_of(volume, (0, 0, 0))
    sizes = [section.size(volume.array.shape, volume.spacing) for section in sections]
    assert sizes == [(20, 40), (10, 40), (10, 20)]
    picture = render.overlay(volume, volume.array)
    widths = 1080 - 4 * 10
    assert picture.width == pytest.approx(1080, abs=2)
    assert picture.height == pytest.approx(20 / 100 * widths + 42, abs=2)


def test_picture_does_not_depend_on_the_order_of_axes(rng: np.random.Generator) -> None:
    """The same patient stored in another order and sense gives the same sections."""
    image = rng.integers(0, 255, (7, 8, 9), np.uint8)
    volume = io.Volume(image, (3.0, 2.0, 1.0))
    expected = [section.of(image) for section in render.sections_of(volume, (2, 3, 4))]
    for axes in ((0, 1, 2), (2, 0, 1), (1, 0, 2)):
        for flip in ((1, 1, 1), (-1, 1, 1), (1, -1, -1)):
            turn = tuple(slice(None, None, f) for f in flip)
            other = image.transpose(axes)[turn]
            planes = [(2, 3, 4)[axis] for axis in axes]
            planes = [
                p if f > 0 else n - 1 - p for p, f, n in zip(planes, flip, other.shape, strict=True)
            ]
            stored = io.Volume(
                other,
                [volume.spacing[axis] for axis in axes],
                direction=volume.direction[:, list(axes)] * flip,
            )
            sections = render.sections_of(stored, tuple(planes))
            for section, plane in zip(sections, expected, strict=True):
                assert_array_equal(section.of(other), plane)
    assert_array_equal(expected[0], image[2])  # axial: rows to the back, columns to the left
    assert_array_equal(expected[1], image[::-1, 3])  # coronal: the head at the top


def test_picture_outlines_each_label_in_its_colour() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[5:15, 5:15], labels[20:35, 30:50] = 1, 2
    volume = io.Volume(np.zeros(labels.shape, np.float32))
    pixels = np.asarray(render.overlay(volume, labels))
    first, second = ((pixels == colour).all(-1) for colour in render.COLOURS[:2])
    scale = (1080 - 20) / 60
    for edge, (top, left, bottom, right) in ((first, (5, 5, 15, 15)), (second, (20, 30, 35, 50))):
        rows, columns = np.nonzero(edge)
        box = np.array([rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]) - 10
        scale = min(scale, (560 - 42) / 40)
        np.testing.assert_allclose(box, np.array([top, left, bottom, right]) * scale, atol=1)
        inner = edge[rows.min() + 4 : rows.max() - 3, columns.min() + 4 : columns.max() - 3]
        assert not inner.any(), "the outline must be thin"


@pytest.mark.parametrize(
    ("low", "high", "inside", "expected"),
    [
        (-1000, 1500, -700, (-1350, 150)),
        (-1000, 1500, 40, (-160, 240)),
        (-1000, 1500, 800, (-500, 1300)),
    ],
)
def test_window_of_ct(
    rng: np.random.Generator, low: int, high: int, inside: int, expected: tuple[int, int]
) -> None:
    image = rng.integers(low, high, (30, 30)).astype(np.int16)
    labels = np.zeros(image.shape, bool)
    labels[10:20, 10:20], image[10:20, 10:20] = True, inside
    sections = render.sections_of(io.Volume(image), (0, 0))
    assert render.default_window(image, labels, sections) == expected


@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
def test_picture_of_a_constant_image(value: float) -> None:
    volume = io.Volume(np.full((5, 6, 7), value, np.float32))
    low, high = render.default_window(
        volume.array, volume.array > 99, render.sections_of(volume, (0, 0, 0))
    )
    assert low < high
    render.overlay(volume, np.zeros(volume.array.shape, bool))


def test_files_beside_the_output() -> None:
    for name in ("mask.nii.gz", "mask.nii", "mask.png"):
        assert files.beside(Path("a.b") / name, ".json") == Path("a.b/mask.json")


def test_ratio_is_never_rounded_up() -> None:
    def row(ratio: float) -> compare.Row:
        return compare.Row("m", {}, {}, {1: 1.0}, peer_ms=ratio)

    assert [compare.faster(row(r)) for r in (0.99, 9.99, 10.9, 99.99)] == [
        "0.9x",
        "9.9x",
        "10x",
        "99x",
    ]


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("abs(value - region_mean) < 2 * region_std", (5, 4, 1, 0), True),
        ("value > 3 and not seed_value == 0", (5, 4, 1, 0), False),
        ("max(value, sqrt(region_mean)) >= 2 if value else 1 < 0", (1, 4, 0, 0), True),
    ],
)
def test_rule(text: str, values: tuple[float, ...], expected: bool) -> None:
    assert rule.function(text)(*values) is expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "value <",
        "open('file')",
        "__import__('os')",
        "value.real > 1",
        "(lambda: 1)()",
        "[v for v in (1, 2)]",
        "values > 1",
        "(v := value) > 1",
        "'a' * 9",
        "abs.__self__",
        "f'{value}'",
    ],
)
def test_rule_holds_nothing_but_arithmetic(text: str) -> None:
    with pytest.raises(ValueError, match="--rule"):
        rule.function(text)
