"""`medseg-fast edges` and the demo's gallery of edges."""

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

from _cli import SCAN
from _cli import run as run_command
from click.testing import Result

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app import demo, edges
from medseg_fast.edge_detection import EDGE_FAMILIES, EDGE_METHODS


def run(*args: Any) -> Result:
    return run_command("edges", *args)


def test_all_methods_of_all_families(tmp_path: Path) -> None:
    output = tmp_path / "edges.png"
    points = ("95,51", "70,87", "95,118", "122,87")
    words = [word for point in points for word in ("--point", point)]
    result = run(SCAN, "-o", output, "--json", *words)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "edges.json").read_text())
    found = [(row["family"], row["method"]) for row in report["methods"]]
    assert found == [(f, name) for f, names in EDGE_FAMILIES.items() for name in names]
    assert all(0 <= row["edge_share"] < 0.6 and row["ms"] > 0 for row in report["methods"])
    with Image.open(output) as picture:
        picture.load()
        assert picture.mode == "RGB"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["edges.json", "edges.png"]


def test_images_are_what_detect_edges_finds(tmp_path: Path) -> None:
    output = tmp_path / "edges.png"
    words = ("-m", "canny", "-m", "edge_flow", "--sigma", 1.5, "--plane", "11,90,90", "--images")
    result = run(SCAN, "-o", output, *words)
    assert result.exit_code == 0, result.output
    assert "edge_flow" in result.stdout
    volume = io.read(SCAN)
    section = volume.array[11]
    for name, given in (("canny", {"sigma": 1.5}), ("edge_flow", {"scale": 1.5})):
        found = ms.detect_edges(section, name, spacing=volume.spacing[1:], **given)
        drawn = np.asarray(Image.open(tmp_path / f"edges.{name}.edges.png"))
        assert_array_equal(drawn != 0, found.edges)
        strength = np.asarray(Image.open(tmp_path / f"edges.{name}.strength.tif"))
        assert_array_equal(strength, found.strength.astype(np.float32))
    report = json.loads((tmp_path / "edges.json").read_text())
    assert report["section"] == "axial  [11, :, :]"
    assert report["methods"][1]["edges"] == str(tmp_path / "edges.edge_flow.edges.png")


def test_a_plane_image_and_one_without_edges(tmp_path: Path) -> None:
    y, x = np.indices((40, 60))
    for image in (((y - 20) ** 2 + (x - 30) ** 2 < 150) * 200, np.zeros((40, 60))):
        source = tmp_path / "image.png"
        Image.fromarray(image.astype(np.uint8)).save(source)
        result = run(source, "-o", tmp_path / "edges.png", "--force")
        assert result.exit_code == 0, result.output
        assert "the image, 40 x 60 pixels" in result.stdout


@pytest.mark.parametrize(
    ("code", "message", "words"),
    [
        (1, "exists (--force replaces it)", ()),
        (1, "must lie inside the image", ("--plane", "99,0,0", "--force")),
        (1, "must lie inside the image", ("--plane", "5,5", "--force")),
        (2, "Invalid value for '-m'", ("-m", "none")),
        (2, "Invalid value for '--sigma'", ("--sigma", "0")),
        (1, "method 'live_wire' needs points", ("-m", "live_wire", "--force")),
        (1, "only the method live_wire", ("-m", "canny", "--point", "5,5", "--force")),
        (1, "point", ("--point", "5,5", "--point", "500,5", "--force")),
    ],
)
def test_bad_usage(tmp_path: Path, code: int, message: str, words: tuple[str, ...]) -> None:
    output = tmp_path / "edges.png"
    output.write_text("mine")
    result = run(SCAN, "-o", output, *words)
    assert result.exit_code == code
    assert message in result.stderr
    assert output.read_text() == "mine"


def test_gallery_has_every_method_and_follows_the_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = demo.load("ct_lung_tumour")
    text = edges.section(scan)
    families = [family for family, names in EDGE_FAMILIES.items() if names]
    assert all(f"<h4>{family}</h4>" in text for family in families)
    assert all(f"<b>{name}</b>" in text for name in EDGE_METHODS)
    # A method that registers later appears without a change here.
    monkeypatch.setitem(EDGE_METHODS, "snail-trail", EDGE_METHODS["sobel"])
    monkeypatch.setitem(EDGE_FAMILIES, "cost functions", ["snail-trail"])
    assert ("cost functions", "snail-trail") in edges.methods()
    assert edges.methods(["snail-trail", "canny"]) == [
        ("pixel attributes", "canny"),
        ("cost functions", "snail-trail"),
    ]
    assert "snail-trail" in edges.section(scan)


def test_the_percentage_of_the_outline(monkeypatch: pytest.MonkeyPatch) -> None:
    scan = demo.load("ct_lung_tumour")
    plane = edges.plane_of(scan.volume, tuple(scan.recipe["planes"]))
    assert plane.image.shape == scan.image.shape[1:]  # the section with the most pixels
    truth = plane.section.of(scan.truth)
    (found,) = edges.find(plane, ["canny"], truth=truth)
    outline = ms.find_boundaries(truth, mode="inner")
    distance = ms.distance_transform_edt(~found.edges, plane.spacing)
    assert found.outline == np.mean(distance[outline] <= edges.NEAR)
