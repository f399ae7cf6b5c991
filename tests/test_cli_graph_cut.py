"""The command line's graph cut: seeds of every kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from _cli import Image, run

import medseg_fast as ms


def test_graph_cut_from_seeds_of_every_kind(tmp_path: Path) -> None:
    """Voxels, a label image and a box say the same."""
    rng = np.random.default_rng(3)
    z, y, x = np.indices((12, 24, 26))
    truth = (z - 6) ** 2 * 4 + (y - 12) ** 2 + (x - 13) ** 2 < 64
    image = (100 * truth + rng.normal(0, 8, truth.shape)).astype(np.int16)
    ms.io.write(tmp_path / "image.nii.gz", ms.io.Volume(image, (2.0, 1.0, 1.0)))
    labels = np.zeros(image.shape, np.uint8)
    labels[5:8, 11:14, 12:15], labels[:2] = 1, 2
    ms.io.write(tmp_path / "seeds.nii.gz", ms.io.Volume(labels, (2.0, 1.0, 1.0)))
    spellings = [
        ("--inside", "6,12,13", "--outside", "1,3,3", "--outside", "10,20,20"),
        ("--seeds", tmp_path / "seeds.nii.gz", "--region", "gmm"),
        ("--inside", "6,12,13", "--radius", "1,2,2", "--box", "1:11,2:22,3:23"),
        ("--seeds", tmp_path / "seeds.nii.gz", "--slab", "4"),
    ]
    for words in spellings:
        out = tmp_path / "mask.nii.gz"
        given = ("-m", "graph-cut", "--force", "--no-overlay", *words)
        result = run("segment", tmp_path / "image.nii.gz", "-o", out, *given)
        assert result.exit_code == 0, result.output
        mask = ms.io.read(out).array != 0
        assert np.count_nonzero(mask != truth) < 20, words


def test_a_cut_by_slabs_is_that_of_the_whole(tmp_path: Path) -> None:
    image = np.random.default_rng(5).normal(size=(11, 14, 15)).cumsum(0).astype(np.float32)
    ms.io.write(tmp_path / "image.nii.gz", ms.io.Volume(image, (1.0, 1.0, 1.0)))
    masks = []
    for words in ((), ("--slab", "3")):
        out = tmp_path / "mask.nii.gz"
        given = ("-m", "graph-cut", "--force", "--no-overlay", "--sigma", "2", *words)
        ends = ("--inside", "9,7,7", "--outside", "1,1,1")
        result = run("segment", tmp_path / "image.nii.gz", "-o", out, *given, *ends)
        assert result.exit_code == 0, result.output
        masks.append(ms.io.read(out).array)
    np.testing.assert_array_equal(*masks)
    assert masks[0].any()
    assert "--slab" in run("segment", "-m", "graph-cut", "--help").output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--outside", "1,1"), "--inside: must be given"),
        (("--inside", "1,1", "--outside", "4,4", "--slab", "0"), "slab must be at least 1"),
        (("--inside", "1,1"), "--outside: must be given"),
        (("--inside", "9,9", "--outside", "1,1"), "--inside: (9, 9) must lie inside"),
        (("--inside", "1,1", "--box", "0:9,0:2"), "--box: must be start:stop for each axis"),
        (("--inside", "1,1", "--box", "0:2"), "--box: must be start:stop for each axis"),
        (("--inside", "1,1", "--box", "a"), "--box: must be start:stop for each axis"),
    ],
)
def test_graph_cut_usage_errors(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    Image.fromarray(np.eye(5, dtype=np.uint8)).save(tmp_path / "image.png")
    out = tmp_path / "mask.png"
    result = run("segment", tmp_path / "image.png", "-o", out, "-m", "graph-cut", *words)
    assert result.exit_code != 0
    assert message in result.output
    assert not out.exists()
