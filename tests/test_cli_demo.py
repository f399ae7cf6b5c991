"""`medseg-fast demo` and `bench`: the page, its slider, the table."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("click", reason="the command line needs the extra io")
Image = pytest.importorskip("PIL.Image", reason="the command line needs the extra io")
# ruff: noqa: E402

from _cli import SCANS, error, run

from medseg_fast import metrics
from medseg_fast._app import compare, demo, explore, peers
from medseg_fast._methods import METHODS, Method


def test_recipes_name_every_method() -> None:
    for scan in SCANS.values():
        assert set(METHODS) == set(scan.recipe["methods"])
        for name in METHODS:
            recipe = scan.recipe["methods"][name]
            required = {option.name for option in METHODS[name].options if option.required}
            assert required <= set(recipe["options"]), name


class Page(HTMLParser):
    """Collects what a page would load, and checks that tags close in order."""

    VOID = frozenset({"meta", "img", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name in ("src", "href", "srcset", "data", "action", "poster"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("demo") / "demo.html"
    result = run("demo", "-o", path, "--seconds", 0, "--json")
    assert result.exit_code == 0, result.output
    return path.read_text(), json.loads(result.stdout)


def test_demo_page_is_self_contained(page: Any) -> None:
    text, _ = page
    parsed = Page(text)
    assert len(set(parsed.ids)) == len(parsed.ids)
    for link in parsed.links:
        assert link.startswith(("data:image/png;base64,", "#")), link[:80]
        if link.startswith("#"):
            assert link[1:] in parsed.ids
        else:
            with Image.open(BytesIO(base64.b64decode(link.partition(",")[2]))) as picture:
                picture.load()
    assert "@import" not in text
    assert not re.search(r"url\(|https?://|<link|\$\w", text)
    assert len(parsed.links) > 2 * len(SCANS) * len(demo.chosen())


def test_demo_report(page: Any) -> None:
    text, report = page
    assert [scan["name"] for scan in report["scans"]] == list(SCANS)
    for scan in report["scans"]:
        assert [row["method"] for row in scan["rows"]] == demo.chosen()
        for row in scan["rows"]:
            assert f'<article id="{scan["name"]}-{row["method"]}">' in text
            assert all(t > 0 for t in row["ms"].values())
            peer = METHODS[row["method"]].peer
            if peer is None or not peer.installed():
                continue
            assert row["peer_error"] is None, (row["method"], row["peer_error"])
            assert row["dice"] > 0.999, (scan, row["method"], row["dice"], row["differing"])
            assert row["identical"] == (row["differing"] == 0)


def test_demo_without_peers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "find_spec", lambda module: None)
    words = ("-m", "threshold", "--seconds", 0)
    result = run("demo", "-o", tmp_path / "demo.html", *words)
    assert result.exit_code == 0, result.output
    assert "threshold" in result.stdout
    Page((tmp_path / "demo.html").read_text())


def test_demo_replaces_only_its_own_page(tmp_path: Path) -> None:
    output = tmp_path / "demo.html"
    words = ("demo", "-o", output, "-m", "threshold", "--seconds", 0, "--no-peers")
    output.write_text("mine")
    assert "exists" in error(run(*words), 1)
    assert output.read_text() == "mine"
    assert run(*words, "--force").exit_code == 0
    assert run(*words).exit_code == 0


def test_a_failing_peer_is_a_row() -> None:
    def fail(image: Any, **options: Any) -> Any:
        raise RuntimeError("too old")

    method = Method("m", "f", "", METHODS["threshold"].run, (), peers.Peer("NumPy", "numpy", fail))
    row = compare.compare(method, np.zeros((2, 2)), {}, threads=(1,), seconds=0)
    assert row.peer_ms is None
    assert "RuntimeError: too old" in compare.text_table([row])


def test_bench() -> None:
    result = run("bench", "-m", "threshold", "--seconds", 0)
    assert result.exit_code == 0, result.output
    assert re.search(r"^threshold +\d", result.stdout, re.M)
    words = ("-m", "threshold", "--scan", "mr_head_t1", "--seconds", 0, "--json")
    (scan,) = json.loads(run("bench", *words).stdout)["scans"]
    assert "1" in scan["rows"][0]["ms"]


@pytest.mark.parametrize("scan", SCANS.values(), ids=SCANS)
def test_slider_shows_the_region_of_each_threshold(scan: demo.Scan) -> None:
    """The page's one number per voxel against a search for each threshold."""
    ndimage = pytest.importorskip("scipy.ndimage")
    recipe = scan.recipe["explorer"]
    box = tuple(slice(first, last) for first, last in recipe["box"])
    inside = np.zeros(scan.image.shape, bool)
    inside[box] = True
    found = explore.steps(scan)
    for step in (0, 1, explore.STEPS // 3, explore.STEPS - 1):
        components, _ = ndimage.label(inside & (scan.image >= found.thresholds[step]))
        at_seed = components[tuple(recipe["seed"])]
        region = (components == at_seed) & (at_seed > 0)
        assert_array_equal(found.reached >= explore.STEPS - step, region)
        assert found.dice[step] == pytest.approx(metrics.dice(region, scan.truth))
        voxel = np.prod(scan.spacing)
        assert found.millilitres[step] == pytest.approx(region.sum() * voxel / 1000)
