"""The command line's geodesic segmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import Image, run

import medseg_fast as ms


def test_geodesic_keeps_a_ball_apart(tmp_path: Path) -> None:
    z, y, x = np.indices((12, 24, 26))
    truth = (z - 6) ** 2 * 4 + (y - 12) ** 2 + (x - 13) ** 2 < 64
    noise = np.random.default_rng(3).normal(0, 3, truth.shape)
    image = (100 * truth + noise).astype(np.int16)
    ms.io.write(tmp_path / "image.nii.gz", ms.io.Volume(image, (2.0, 1.0, 1.0)))
    seeds = ("--marker", "3:6,12,13", "--marker", "1:0,0,0", "--marker", "1:11,23,25")
    for words in (seeds, (*seeds, "--radius", "0,1,1", "--sigma", "0", "--intensity-weight", "9")):
        out = tmp_path / "mask.nii.gz"
        given = ("-m", "geodesic", "--force", "--no-overlay", *words)
        result = run("segment", tmp_path / "image.nii.gz", "-o", out, *given)
        assert result.exit_code == 0, result.output
        labels = ms.io.read(out).array
        assert set(np.unique(labels)) == {1, 3}
        assert np.count_nonzero((labels == 3) != truth) < 0.1 * np.count_nonzero(truth)
    result = run(
        *("segment", tmp_path / "image.nii.gz", "-o", out, *given, "--max-distance", "4"),
    )
    assert result.exit_code == 0, result.output
    assert 0 in ms.io.read(out).array


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "--marker"),
        (("--marker", "1:9,9"), "--marker: (9, 9) must lie inside"),
        (("--marker", "0:1,1"), "--marker: labels must be at least 1"),
        (("--marker", "1:1,1", "--intensity-weight", "-1"), "intensity_weight must be finite"),
    ],
)
def test_geodesic_usage_errors(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "image.png")
    out = tmp_path / "mask.png"
    result = run("segment", tmp_path / "image.png", "-o", out, "-m", "geodesic", *words)
    assert result.exit_code != 0
    assert message in result.output
    assert not out.exists()
