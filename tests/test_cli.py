"""The command line, run as a user runs it: files in, files out, exit codes, one-line errors."""

from __future__ import annotations

import json
import os
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_array_equal

pytest.importorskip("click", reason="the command line needs the extra io")
Image = pytest.importorskip("PIL.Image", reason="the command line needs the extra io")
# ruff: noqa: E402

from _cli import SCAN, SCANS, error, run, subprocess_run

import medseg_fast as ms
from medseg_fast import __main__, io
from medseg_fast._app import demo, render, segment
from medseg_fast._methods import METHODS

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
        (("-m", "threshold", "--open-radius", "nan"), 2, "must be a number, got NaN"),
        (("-m", "threshold", "--close-radius", "inf"), 2, "inf is not in the range"),
        (("-m", "threshold", "--lower", "5", "--upper", "4"), 1, "lower must not exceed upper"),
        (("-m", "threshold", "--lower", "nan"), 1, "must be a number, got NaN"),
        (("-m", "threshold", "--frame", "1"), 1, "no time axis"),
        (("-m", "components", "--connectivity", "4"), 1, "connectivity must be from 1 to 3"),
        (("-m", "components", "--lower", "9", "--upper", "8"), 1, "lower must not exceed upper"),
        (("-m", "threshold", "--channel", "1"), 1, "no channels"),
        (("-m", "otsu", "--window", "5", "1"), 2, "LOW must be below HIGH, got 5.0 and 1.0"),
    ],
)
def test_wrong_arguments(tmp_path: Path, words: tuple[str, ...], code: int, text: str) -> None:
    result = run("segment", SCAN, "-o", tmp_path / "mask.nii.gz", *words)
    assert text in error(result, code)
    assert not list(tmp_path.iterdir())


REQUIRED = [(m.name, o.name) for m in METHODS.values() for o in m.options if o.required]


@pytest.mark.parametrize(("method", "option"), REQUIRED)
def test_required_options(method: str, option: str) -> None:
    given = {"index": "1,1,1", "marker": "1:1,1,1", "size": "3", "float": "1", "text": "1"}
    words = []
    for other in METHODS[method].options:
        if other.required and other.name != option:
            words += [f"--{other.name.replace('_', '-')}", given[other.kind]]
    result = run("segment", SCAN, "-o", "mask.nii", "-m", method, *words)
    assert f"Missing option '--{option.replace('_', '-')}'" in error(result, 2)


def test_missing_input(tmp_path: Path) -> None:
    result = run("segment", tmp_path / "no.nii", "-o", tmp_path / "m.nii", "-m", "threshold")
    assert error(result, 1) == f"medseg-fast: {tmp_path / 'no.nii'}: No such file or directory"


def test_damaged_input(tmp_path: Path) -> None:
    damaged = tmp_path / "half.nii.gz"
    damaged.write_bytes(SCAN.read_bytes()[:5000])
    result = run("segment", damaged, "-o", tmp_path / "m.nii", "-m", "threshold")
    assert "half.nii.gz" in error(result, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["half.nii.gz"]


@pytest.mark.parametrize("output", ["", ".", "/"])
def test_output_without_a_name(output: str) -> None:
    assert "is a folder" in error(run("segment", SCAN, "-o", output, "-m", "otsu"), 1)


def test_output_is_a_link_to_nothing(tmp_path: Path) -> None:
    link = tmp_path / "m.nii"
    link.symlink_to(tmp_path / "nowhere.nii")
    words = ("segment", SCAN, "-o", link, "-m", "otsu", "--no-overlay", "--no-measurements")
    assert "m.nii: exists (--force replaces it)" in error(run(*words), 1)
    assert run(*words, "--force").exit_code == 0
    assert link.is_file()


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
