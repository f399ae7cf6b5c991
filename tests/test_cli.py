"""The command line, run as a user runs it: files in, files out, exit codes, one-line errors."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
import sys
import warnings
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

from click.testing import CliRunner, Result

import medseg_fast as ms
from medseg_fast import __main__, io
from medseg_fast._app import compare, demo, explore, files, measure, peers, render, rule, segment
from medseg_fast._methods import METHODS, Method, threshold
from medseg_fast.cli import cli

SCAN = io.example("ct_lung_tumour").image
SCANS = {name: demo.load(name) for name in io.examples()}


def run(*args: Any) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


def error(result: Result, code: int) -> str:
    """The one line on stderr of a run that must fail with this code."""
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("medseg-fast")
    return line


def subprocess_run(*args: Any, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code else ["-m", "medseg_fast"]
    command = [sys.executable, *start, *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


# ----- segment


@pytest.mark.parametrize("name", demo.chosen())
def test_every_method(tmp_path: Path, name: str) -> None:
    """The command that the demo prints gives the mask that the demo shows."""
    scan = "mr_head_t1"  # its axes are neither in the order nor in the sense of the patient's
    options = demo.options(SCANS[scan], name)
    output = tmp_path / "mask.nii.gz"
    words = demo.command(name, options)
    result = run("segment", io.example(scan).image, "-o", output, *words, "--json")
    assert result.exit_code == 0, result.output
    volume, written = SCANS[scan].volume, io.read(output)
    given = METHODS[name].arguments(options, volume.spacing)
    expected, _ = METHODS[name].run(volume.array, **given)
    assert_array_equal(written.array, expected)
    assert written.array.dtype == np.min_scalar_type(int(expected.max()))
    np.testing.assert_allclose(written.affine_lps, volume.affine_lps, atol=1e-4)

    report = json.loads(result.stdout)
    assert report == json.loads((tmp_path / "mask.json").read_text())
    assert report["method"] == name
    assert set(report["options"]) >= set(options)
    assert sum(region["voxels"] for region in report["regions"]) == np.count_nonzero(expected)
    assert set(report["seconds"]) >= {"read", "segment", "measure"}
    with Image.open(tmp_path / "mask.overlay.png") as picture:
        pixels = np.asarray(picture)
    outlined = [(pixels == colour).all(-1).any() for colour in render.COLOURS]
    assert any(outlined), "no outline in the picture"
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mask.json",
        "mask.nii.gz",
        "mask.overlay.png",
    ]


def test_text_report(tmp_path: Path) -> None:
    result = run("segment", SCAN, "-o", tmp_path / "m.nii.gz", "-m", "threshold", "--lower", 100)
    assert result.exit_code == 0
    assert re.search(r"label 1: [\d.]+ ml, [\d.]+ x [\d.]+ x [\d.]+ mm", result.stdout)
    assert f"wrote {tmp_path / 'm.overlay.png'}" in result.stdout
    assert result.stderr == ""


def test_without_side_files(tmp_path: Path) -> None:
    words = ("-m", "threshold", "--lower", 100, "--no-overlay", "--no-measurements")
    assert run("segment", SCAN, "-o", tmp_path / "m.nii", *words).exit_code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m.nii"]


def test_empty_mask_is_reported(tmp_path: Path) -> None:
    result = run("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold", "--lower", 9999)
    assert result.exit_code == 0
    assert "nothing found" in result.stdout
    assert json.loads((tmp_path / "m.json").read_text())["regions"] == []


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), "1110010 1010000 1110110"),
        (("--min-voxels", 3), "1110000 1010000 1110000"),
        (("--min-voxels", 2), "1110000 1010000 1110110"),
        (("--largest",), "1110000 1010000 1110000"),
        (("--fill-holes",), "1110010 1110000 1110110"),
        (("--largest", "--fill-holes"), "1110000 1110000 1110000"),
    ],
)
def test_refinement(tmp_path: Path, words: tuple[Any, ...], expected: str) -> None:
    image = np.array([[*map(int, "1110010")], [*map(int, "1010000")], [*map(int, "1110110")]])
    io.write(tmp_path / "image.npy", image.astype(np.uint8))
    output = tmp_path / "mask.npy"
    words = (
        "segment",
        tmp_path / "image.npy",
        "-o",
        output,
        "-m",
        "threshold",
        "--lower",
        1,
        *words,
    )
    assert run(*words).exit_code == 0
    rows = ["".join(map(str, row)) for row in io.read(output).array]
    assert " ".join(rows) == expected


@pytest.mark.parametrize("radius", [1, 2.0, 2.7, 3.9])
@pytest.mark.parametrize("word", ["--open-radius", "--close-radius"])
def test_refinement_by_a_ball_in_mm(
    tmp_path: Path, rng: np.random.Generator, word: str, radius: float
) -> None:
    """SciPy's opening and closing by the voxels within the radius, image borders mirrored away."""
    ndimage = pytest.importorskip("scipy.ndimage")
    spacing = (2.0, 0.9, 1.3)
    coarse = ndimage.gaussian_filter(rng.normal(size=(14, 21, 18)), 1.2)
    mask = coarse > 0
    io.write(tmp_path / "image.nii", io.Volume(mask.astype(np.uint8), spacing))
    words = ("-o", tmp_path / "m.nii", "-m", "threshold", "--lower", 1, word, radius, "--json")
    result = run("segment", tmp_path / "image.nii", *words)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)[f"{word[2:-7]}_radius_mm"] == radius
    reach = [int(radius / mm + 1e-6) for mm in spacing]
    steps = np.indices([2 * r + 1 for r in reach]) - np.reshape(reach, (3, 1, 1, 1))
    squares = sum((k * mm) ** 2 for k, mm in zip(steps, spacing, strict=True))
    ball = squares <= radius**2 * (1 + 1e-6)
    grow, shrink = ndimage.binary_dilation, ndimage.binary_erosion
    if word == "--open-radius":
        expected = grow(shrink(mask, ball, border_value=1), ball)
    else:
        expected = shrink(grow(mask, ball), ball, border_value=1)
    assert_array_equal(io.read(tmp_path / "m.nii").array, expected)
    assert not (expected == mask).all()


def test_compact_watershed(tmp_path: Path) -> None:
    words = ("-m", "watershed", "--marker", "1:2,2,2", "--marker", "2:20,150,150", "--no-overlay")
    found = []
    for compactness in (0, 100):
        output = tmp_path / f"{compactness}.nii"
        result = run("segment", SCAN, "-o", output, *words, "--compactness", compactness)
        assert result.exit_code == 0, result.output
        found.append(io.read(output).array)
    image = io.read(SCAN).array
    surface, markers = ms.morphological_gradient(image, 3), np.zeros(image.shape, np.uint8)
    markers[2, 2, 2], markers[20, 150, 150] = 1, 2
    assert_array_equal(found[1], ms.watershed(surface, markers, compactness=100))
    assert (found[0] != found[1]).any()


def test_refinement_of_labels_is_refused(tmp_path: Path) -> None:
    words = ("-m", "components", "--lower", 100, "--largest")
    assert "components gives labels" in error(
        run("segment", SCAN, "-o", tmp_path / "m.nii", *words), 1
    )


def test_threads_option_limits_the_kernels(tmp_path: Path) -> None:
    before = ms.get_num_threads()
    words = ("-m", "threshold", "--lower", 0, "--threads", 1, "--json")
    result = run("segment", SCAN, "-o", tmp_path / "m.nii", *words)
    assert json.loads(result.stdout)["threads"] == 1
    assert ms.get_num_threads() == before


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (("-m", "no-such-method"), 2, "'no-such-method' is not"),
        ((), 2, "Missing option '-m'"),
        (("-m", "threshold", "--lower", "high"), 2, "'high' is not a valid float"),
        (("-m", "threshold", "--colour", "red"), 2, "No such option"),
        (("-m", "threshold", "--threads", "0"), 2, "0 is not in the range"),
        (("-m", "threshold", "--open-radius", "-1"), 2, "-1.0 is not in the range"),
        (("-m", "threshold", "--lower", "5", "--upper", "4"), 1, "lower must not exceed upper"),
        (("-m", "threshold", "--lower", "nan"), 1, "must be a number, got NaN"),
        (("-m", "threshold", "--frame", "1"), 1, "no time axis"),
        (("-m", "components", "--connectivity", "4"), 1, "connectivity must be from 1 to 3"),
        (("-m", "components", "--lower", "9", "--upper", "8"), 1, "lower must not exceed upper"),
        (("-m", "threshold", "--channel", "1"), 1, "no channels"),
    ],
)
def test_wrong_arguments(tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    result = run("segment", SCAN, "-o", tmp_path / "mask.nii.gz", *words)
    assert text in error(result, code)
    assert not list(tmp_path.iterdir())


def test_missing_input(tmp_path: Path) -> None:
    result = run("segment", tmp_path / "no.nii", "-o", tmp_path / "m.nii", "-m", "threshold")
    assert "no.nii" in error(result, 1)


def test_damaged_input(tmp_path: Path) -> None:
    damaged = tmp_path / "half.nii.gz"
    damaged.write_bytes(SCAN.read_bytes()[:5000])
    result = run("segment", damaged, "-o", tmp_path / "m.nii", "-m", "threshold")
    assert "half.nii.gz" in error(result, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["half.nii.gz"]


def test_output_is_never_replaced_unasked(tmp_path: Path) -> None:
    picture = tmp_path / "m.overlay.png"
    picture.write_text("mine")
    words = ("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold", "--lower", 0)
    assert "m.overlay.png: exists" in error(run(*words), 1)
    assert picture.read_text() == "mine"
    assert not (tmp_path / "m.nii").exists()
    assert run(*words, "--force").exit_code == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert run(*words, "--force").exit_code == 0


def test_input_is_never_replaced(tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(SCAN.read_bytes())
    words = ("-m", "threshold", "--lower", 0, "--force")
    assert "is the input" in error(run("segment", scan, "-o", scan, *words), 1)
    assert scan.read_bytes() == SCAN.read_bytes()


def test_unwritable_output(tmp_path: Path) -> None:
    words = ("-m", "threshold", "--lower", 0)
    assert "no such folder" in error(run("segment", SCAN, "-o", tmp_path / "x/m.nii", *words), 1)
    assert "is a folder" in error(run("segment", SCAN, "-o", tmp_path, *words), 1)
    assert "m.xyz" in error(run("segment", SCAN, "-o", tmp_path / "m.xyz", *words), 1)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    words = ("-m", "threshold", "--lower", 0)
    assert "not writable" in error(run("segment", SCAN, "-o", tmp_path / "m.nii", *words), 1)


@pytest.mark.parametrize("broken", ["write", "overlay", "measure"])
def test_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OSError("disk full")

    owner = {"write": io, "overlay": render, "measure": segment}[broken]
    monkeypatch.setattr(owner, broken, fail)
    result = run("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold", "--lower", 0)
    assert "disk full" in error(result, 1)
    assert not list(tmp_path.iterdir())


def test_a_killed_run_leaves_no_output(tmp_path: Path) -> None:
    """Killed at the worst moment, before the first file takes its name."""
    code = """
import os, signal
os.replace = os.rename = os.link = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
from medseg_fast.__main__ import main
main()
"""
    words = ("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold", "--lower", 0)
    assert subprocess_run(*words, code=code).returncode == -9
    assert not [path for path in tmp_path.iterdir() if not path.name.startswith(".")]


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    words = ("segment", tmp_path / "no.nii", "-o", tmp_path / "m.nii", "-m", "threshold")
    assert "Traceback" not in run(*words).stderr
    assert "Traceback" in run(*words, "--debug").stderr
    assert "Traceback" not in run(*words).stderr


def test_warnings_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def warn(*args: Any, **kwargs: Any) -> Any:
        warnings.warn("it leaks\neverywhere", UserWarning, stacklevel=1)
        return []

    monkeypatch.setattr(segment, "measure", warn)
    result = run("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold")
    assert result.exit_code == 0
    assert result.stderr == "medseg-fast: warning: it leaks everywhere\n"


def test_unexpected_error_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(segment, "measure", fail)
    result = run("segment", SCAN, "-o", tmp_path / "m.nii", "-m", "threshold")
    assert "ZeroDivisionError: two lines (--debug" in error(result, 1)


def test_colour_image(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    colours = rng.integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "photo.png")
    words = ("segment", tmp_path / "photo.png", "-m", "threshold", "--lower", 128)
    assert run(*words, "-o", tmp_path / "grey.png").exit_code == 0
    assert run(*words, "-o", tmp_path / "green.png", "--channel", 1).exit_code == 0
    grey, green = (np.asarray(Image.open(tmp_path / f"{n}.png")) for n in ("grey", "green"))
    luminance = np.rint(colours @ np.array([0.2126, 0.7152, 0.0722])) >= 128
    assert_array_equal(green != 0, colours[..., 1] >= 128)
    assert_array_equal(grey != 0, luminance)
    assert "area_mm2" in json.loads((tmp_path / "grey.json").read_text())["regions"][0]
    assert "must be 0 to 2" in error(run(*words, "-o", tmp_path / "x.png", "--channel", 3), 1)


# ----- help and info


def test_help_lists_every_method() -> None:
    text = run("segment", "--help").stdout
    for method in METHODS.values():
        assert re.search(rf"^  {method.name} ", text, re.M), method.name


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("spelling", ["-m {}", "--method {}", "--method={}", "-m{}"])
def test_help_of_each_method(name: str, spelling: str) -> None:
    result = run("segment", *spelling.format(name).split(), "--help")
    assert result.exit_code == 0
    section = result.stdout[result.stdout.index(f"Method {name}:") :]
    flags = re.findall(r"^  (--[\w-]+)", section, re.M)
    assert flags == ["--" + option.name.replace("_", "-") for option in METHODS[name].options]


def test_info() -> None:
    config = json.loads(run("info", "--json").stdout)
    assert config["medseg_fast"]["version"] == ms.__version__
    assert config["build"]["chosen"] in run("info").stdout
    assert ms.__version__ in run("--version").stdout


def test_as_a_module_and_json_is_pure() -> None:
    done = subprocess_run("info", "--json")
    assert done.returncode == 0
    assert done.stderr == ""
    assert json.loads(done.stdout)["threads"] == ms.get_num_threads()


def test_usage_error_as_a_process() -> None:
    done = subprocess_run("segment", "--colour")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1


def test_says_which_extra_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(__main__, "find_spec", lambda module: None)
    with pytest.raises(SystemExit, match=r'click, Pillow: pip install "medseg_fast\[io\]"'):
        __main__.main()


# ----- demo and bench


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


# ----- parts


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


def test_dice() -> None:
    a, b = np.array([1, 1, 0, 0], bool), np.array([1, 0, 1, 0], bool)
    assert measure.dice(a, b) == 0.5
    assert measure.dice(a & False, b & False) == 1


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
        assert found.dice[step] == pytest.approx(measure.dice(region, scan.truth))
        voxel = np.prod(scan.spacing)
        assert found.millilitres[step] == pytest.approx(region.sum() * voxel / 1000)


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
