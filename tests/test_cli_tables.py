"""The commands evaluate and measure: files and folders in, tables out."""

from __future__ import annotations

import csv
import io as text_io
import json

import numpy as np
import pytest

pytest.importorskip("click", reason="the command line needs the extra io")
from _cli import error, run

import medseg_fast as ms
from medseg_fast import io

EXAMPLE = io.example("ct_lung_tumour")


def _write(path, array, spacing=(2.0, 1.0, 0.5), **geometry):
    io.write(path, io.Volume(array, spacing=spacing, **geometry))
    return path


@pytest.fixture
def cubes():
    truth = np.zeros((6, 10, 12), np.uint8)
    truth[1:5, 2:8, 3:9] = 1
    truth[5, :3, :3] = 4
    return np.roll(truth, 1, 2), truth


def test_evaluate_two_files(tmp_path, cubes):
    pred, truth = (_write(tmp_path / f"{i}.nii.gz", a) for i, a in enumerate(cubes))
    report = json.loads(run("evaluate", pred, truth, "--json", "--tolerance", 2).stdout)
    expected = ms.metrics.evaluate(*cubes, (2.0, 1.0, 0.5), tolerance_mm=2)
    assert report["rows"] == [{"case": "0", **row} for row in expected]
    result = run("evaluate", pred, truth, "--csv", "--label", 4, "--no-surfaces")
    (row,) = csv.DictReader(text_io.StringIO(result.stdout))
    assert row["label"] == "4"
    assert float(row["dice"]) == expected[1]["dice"]
    assert "nsd" not in row
    text = run("evaluate", pred, truth).stdout
    assert text.split()[:2] == ["label", "dice"]


def test_evaluate_two_folders(tmp_path, cubes):
    for folder, array in zip(("pred", "truth"), cubes, strict=True):
        (tmp_path / folder).mkdir()
        for i in range(3):
            ending = "nrrd" if (folder, i) == ("pred", 1) else "nii.gz"
            _write(
                tmp_path / folder / f"case{i}.{ending}", np.roll(array, i * (folder == "pred"), 1)
            )
    out = tmp_path / "all.json"
    result = run("evaluate", tmp_path / "pred", tmp_path / "truth", "-o", out)
    report = json.loads(out.read_text())
    assert sorted({row["case"] for row in report["rows"]}) == ["case0", "case1", "case2"]
    first = report["summary"][0]
    dices = [row["dice"] for row in report["rows"] if row["label"] == 1]
    assert first["dice"]["mean"] == pytest.approx(np.mean(dices))
    assert first["dice"]["low"] <= first["dice"]["mean"] <= first["dice"]["high"]
    assert " to " in result.stdout
    (tmp_path / "pred" / "case2.nii.gz").unlink()
    line = error(run("evaluate", tmp_path / "pred", tmp_path / "truth"), 1)
    assert "no prediction for case2" in line
    assert "exists" in error(run("evaluate", tmp_path / "pred", tmp_path / "pred", "-o", out), 1)


def test_evaluate_checks_geometry(tmp_path, cubes):
    truth = _write(tmp_path / "truth.nii.gz", cubes[1])
    other = _write(tmp_path / "size.nii.gz", cubes[1], spacing=(2.0, 1.0, 1.0))
    assert "voxels of" in error(run("evaluate", other, truth), 1)
    other = _write(tmp_path / "place.nii.gz", cubes[1], origin=(0.0, 5.0, 0.0))
    assert "lies elsewhere in space" in error(run("evaluate", other, truth), 1)
    other = _write(tmp_path / "shape.nii.gz", cubes[1][1:])
    assert "shape" in error(run("evaluate", other, truth), 1)
    other = _write(tmp_path / "float.nii.gz", cubes[1] * np.float32(0.5))
    assert "labels must be whole numbers" in error(run("evaluate", other, truth), 1)
    assert "no such file" in error(run("evaluate", tmp_path / "nothing", truth), 1)
    assert run("evaluate", truth, truth, "--json", "--csv").exit_code == 2
    assert "must end in .json or .csv" in error(run("evaluate", truth, truth, "-o", "a.txt"), 1)


def test_evaluate_says_what_its_means_are_of(tmp_path, cubes):
    for folder in ("pred", "truth"):
        (tmp_path / folder).mkdir()
        for i in range(4):
            missed = folder == "pred" and i >= 2
            _write(tmp_path / folder / f"case{i}.nii.gz", cubes[1] * (0 if missed else 1))
    head, line, _ = run("evaluate", tmp_path / "pred", tmp_path / "truth").stdout.splitlines()
    assert "0 (0 to 0), 2 of 4" in line  # of the distances
    assert "0.5 (0 to 1)  " in line  # of Dice
    assert line.count(" of ") == 2
    assert head.split()[-3:] == ["hausdorff_95_mm", "average_surface_distance_mm", "nsd"]


def test_evaluate_warns_of_a_label_that_is_nowhere(tmp_path, cubes):
    pred, truth = (_write(tmp_path / f"{i}.nii.gz", a) for i, a in enumerate(cubes))
    result = run("evaluate", pred, truth, "--label", 7, "--label", 4)
    assert "warning: no image has label 7: its scores mean nothing" in result.stderr
    assert "label 4" not in result.stderr
    assert not run("evaluate", pred, truth).stderr


def test_evaluate_writes_no_infinity(tmp_path, cubes):
    truth = _write(tmp_path / "truth.nii.gz", cubes[1])
    pred = _write(tmp_path / "pred.nii.gz", cubes[1] * 0)
    rows = json.loads(run("evaluate", pred, truth, "--json").stdout)["rows"]
    assert rows[0]["hausdorff_mm"] is None
    assert rows[0]["dice"] == 0
    nothing = run("evaluate", pred, pred)
    assert "no label in either image" in nothing.stdout


def test_measure(tmp_path):
    out = tmp_path / "tumour.csv"
    result = run("measure", EXAMPLE.truth, "--image", EXAMPLE.image, "--json", "-o", out)
    truth, image = io.read(EXAMPLE.truth), io.read(EXAMPLE.image)
    table = ms.measure.measure(truth.array, image.array, truth.spacing)
    assert json.loads(result.stdout) == table.rows()
    assert out.read_text() == table.to_csv()
    text = run("measure", EXAMPLE.truth).stdout
    assert "long_axis_mm" in text
    assert "intensity_mean" not in text
    textured = run(
        "measure", EXAMPLE.truth, "--image", EXAMPLE.image, "--texture", "--bins", 16, "--json"
    )
    assert json.loads(textured.stdout)[0]["glcm_contrast"] > 0


def test_measure_refuses(tmp_path):
    small = _write(tmp_path / "a.nii.gz", np.ones((2, 3, 4), np.uint8))
    assert "shape" in error(run("measure", EXAMPLE.truth, "--image", small), 1)
    assert "need --image" in error(run("measure", EXAMPLE.truth, "--texture"), 2)
    result = run("measure", small, "--image", small, "--bins", 3, "--bin-width", 1)
    assert "exclude each other" in error(result, 2)
    empty = _write(tmp_path / "b.nii.gz", np.zeros((2, 3, 4), np.uint8))
    assert "no label in the image" in run("measure", empty).stdout
