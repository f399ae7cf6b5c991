"""`medseg-fast stream`: options, log, page."""

from __future__ import annotations

import json
import os
import re
import threading

import numpy as np
import pytest
from _cli import Image, error, run

from medseg_fast import io
from medseg_fast._app import stream as app
from medseg_fast.stream import Frame, igtl


@pytest.fixture
def folder(tmp_path):
    """Eight pictures with a square that moves."""
    place = tmp_path / "frames"
    place.mkdir()
    for number in range(8):
        image = np.zeros((40, 50), np.uint8)
        image[10:20, 5 + number : 20 + number] = 200
        Image.fromarray(image).save(place / f"{number}.png")
    return place


def test_stream_log_and_report(folder, tmp_path):
    log, page = tmp_path / "run.jsonl", tmp_path / "run.html"
    words = ["--source", folder, "--method", "otsu", "--sink", tmp_path / "masks", "--log", log]
    result = run("stream", *words, "--deadline", "60000", "--json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["sent"] == figures["counts"]["ok"] == 8  # a file: all of it
    assert figures["misses"] == 0
    for number in range(8):
        mask = io.read(tmp_path / "masks" / f"mask{number:06d}.png").array
        assert mask.sum() == 150
        assert mask[10, 5 + number] == 1
    result = run("stream", "report", log, "-o", page)
    assert result.exit_code == 0, result.output
    assert "8 frames received, 8 masks sent (8 ok)" in result.stdout
    text = page.read_text()
    assert "<b>8</b><span>masks sent" in text
    assert len(re.findall(r"<circle ", text)) == 8
    assert "<rect " in text
    assert "http" not in text.replace("http-equiv", "")  # self-contained
    assert "exists" in error(run("stream", "report", log, "-o", page), 1)
    assert run("stream", "report", log, "-o", page, "--force").exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ["--method", "threshold", "--lower", "100"],
        ["--method", "canny", "--sigma", "1.5"],
        ["--method", "region-growing", "--seed", "12,15", "--lower", "100", "--upper", "255"],
        ["--method", "track", "--seed", "12,10", "--lower", "100", "--upper", "255"],
        ["--method", "track-cut", "--seed", "12,10", "--lower", "100", "--upper", "255"],
        ["--method", "track-level-set", "--seed", "12,10", "--lower", "100", "--upper", "255"],
        ["--method", "otsu", "--smooth", "1"],
    ],
)
def test_methods(folder, words):
    result = run("stream", "--source", folder, *words, "--frames", "5")
    assert result.exit_code == 0, result.output
    assert "5 frames received, 5 masks sent (5 ok)" in result.stdout
    result = run("stream", "--source", folder, *words, "--fps", "200", "--repeat", "--frames", "30")
    assert result.exit_code == 0, result.output
    assert "30 frames received" in result.stdout


def test_wrong_usage(folder, tmp_path):
    assert run("stream").exit_code == 2
    assert run("stream", "--source", folder).exit_code == 2
    said = error(run("stream", "--source", folder, "--method", "track", "--lower", "1"), 1)
    assert "--method track: needs --seed, --upper" in said
    assert "no such" in error(run("stream", "--source", "absent", "--method", "otsu"), 1).lower()
    words = ["stream", "--source", folder, "--method", "otsu", "--sink", "a.gif"]
    assert "must be a folder, a .mp4 or .avi file, shm:NAME or igtl://..." in error(run(*words), 1)
    (tmp_path / "no.log").write_text("{}\n")
    assert "not the log of a stream" in error(run("stream", "report", tmp_path / "no.log"), 1)


def test_options_that_a_method_does_not_take(folder):
    for method, words, name in (
        ("track", ["--seed", "1,1", "--lower", "1", "--upper", "2", "--largest"], "largest"),
        ("canny", ["--lower", "1"], "lower"),
        ("otsu", ["--sigma", "2"], "sigma"),
    ):
        result = run("stream", "--source", folder, "--method", method, *words)
        assert f"--method {method}: takes no --{name}" in error(result, 1)


@pytest.mark.parametrize("word", ["shm:", "contour:x", "transform:"])
def test_sinks_that_are_no_folder(folder, word):
    result = run("stream", "--source", folder, "--method", "otsu", "--sink", word)
    assert "must be a folder, a .mp4" in error(result, 1)


def test_what_cannot_be_written_is_refused_at_the_start(folder, tmp_path, monkeypatch):
    words = ["stream", "--source", folder, "--method", "otsu", "--sink", tmp_path / "masks"]
    assert run(*words).exit_code == 0
    assert "has masks already" in error(run(*words), 1)
    pytest.importorskip("cv2", reason="video needs the extra stream")
    assert "no such folder" in error(run(*words[:-1], tmp_path / "absent" / "o.mp4"), 1)


def test_a_stream_without_a_mask_has_failed(folder, tmp_path, monkeypatch):
    def full(sink, result):
        raise OSError("no space left")

    monkeypatch.setattr(app.stream.FolderSink, "__call__", full)
    result = run("stream", "--source", folder, "--method", "otsu", "--sink", tmp_path / "masks")
    assert result.exit_code == 1
    assert "8 error" in result.stdout
    assert "no mask was sent" in result.stderr


def test_an_interrupt_is_the_end_of_a_live_stream(folder, monkeypatch):
    wait = app.Pipeline.wait

    def interrupted(pipeline, seconds):
        assert wait(pipeline, 60)
        raise KeyboardInterrupt

    monkeypatch.setattr(app.Pipeline, "wait", interrupted)
    result = run("stream", "--source", folder, "--method", "otsu")
    assert result.exit_code == 0
    assert "8 frames received, 8 masks sent (8 ok)" in result.stdout


def test_seconds_end_the_wait_for_the_first_frame():
    with igtl.Server(0) as scanner:
        source = f"igtl://127.0.0.1:{scanner.port}"
        words = ["--source", source, "--method", "otsu", "--seconds", "0.2"]
        assert f"{source}: gave no frame within 0.2 s" in error(run("stream", *words), 1)


def test_colours_are_refused(tmp_path):
    Image.fromarray(np.zeros((8, 9, 3), np.uint8)).save(tmp_path / "0.png")
    for method in ("otsu", "canny"):
        result = run("stream", "--source", tmp_path, "--method", method)
        assert f"--method {method}: frames must be grey" in error(result, 1)
    words = ["--method", "network", "--model", "any", "--smooth", "1"]
    assert "--smooth: frames must be grey" in error(run("stream", "--source", tmp_path, *words), 1)


@pytest.fixture
def model(tmp_path):
    """A file of a network whose inside is above half of the range."""
    torch = pytest.importorskip("torch")
    from medseg_fast import nn

    layer = torch.nn.Conv2d(1, 1, 1).eval()
    with torch.no_grad():
        layer.weight[...], layer.bias[...] = 1, -0.5
        nn.optimize(layer, torch.zeros(1, 1, 40, 50)).save(tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize("method", ["canny", "network"])
def test_smoothed_frames_keep_their_units(method, request, rng):
    options = {"model": request.getfixturevalue("model")} if method == "network" else {"sigma": 2}
    frame = np.full((40, 50), 60, np.uint8)
    frame[10:30, 15:35] = 200
    frame += rng.integers(0, 20, frame.shape, np.uint8)
    masks = []
    for smooth in (None, 0.01):
        value = frame
        for step in app.steps(app.Job("", method, smooth=smooth, **options), frame):
            value = step(value)
        masks.append(value)
    assert 0 < masks[0].sum() < 1000
    np.testing.assert_array_equal(*masks)


def test_labels_of_a_network_in_shared_memory(folder, model):
    ring = f"shm:msf_test_{os.getpid()}"  # of this run alone
    words = ["--source", folder, "--method", "network", "--model", model, "--sink", ring]
    result = run("stream", *words)
    assert result.exit_code == 0, result.output
    assert "8 masks sent (8 ok)" in result.stdout


class _Camera:
    """Two frames, then what it is told to raise."""

    def __init__(self, error):
        self.error, self.closed = error, False

    def __iter__(self):
        for number in range(2):
            yield Frame(np.full((8, 9), number, np.uint8))
        raise self.error

    def close(self):
        self.closed = True


@pytest.mark.parametrize("method", ["threshold", "none"])
def test_a_source_is_closed_whatever_fails(monkeypatch, method):
    camera = _Camera(OSError("unplugged"))
    opened = camera, Frame(np.zeros((8, 9), np.uint8)), 25.0, False
    monkeypatch.setattr(app, "_source", lambda job: opened)
    fails = OSError if method == "threshold" else (KeyError, ValueError)
    with pytest.raises(fails):
        app.run(app.Job("camera", method, lower=1))
    assert camera.closed


def test_bench_over_openigtlink(folder):
    words = ["--source", folder, "--method", "otsu", "--fps", "40", "--seconds", "0.5"]
    result = run("stream-bench", *words, "--policy", "all", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for name in ("nothing", "otsu"):
        figures = found[name]
        assert figures["frames"] == figures["received"] == figures["back"] == 20
        assert figures["lost"] == figures["dropped"] == 0
        assert 0 < figures["compute"]["p50"] <= figures["end_to_end"]["max"]
    assert "must be a file or a folder" in error(run("stream-bench", "--source", "igtl://:1"), 1)


def test_the_first_image_of_a_scanner_counts():
    """Plans are made for its shape, and then it is worked on like the others."""
    from medseg_fast._app import stream as app
    from medseg_fast.stream.igtl import Image as Message
    from medseg_fast.stream.igtl import Server

    with Server(0) as scanner:

        def send():
            assert scanner.wait_clients(1, 20)
            for number in range(3):
                scanner.send(Message(np.full((1, 8, 9), number, np.uint8)))

        sender = threading.Thread(target=send)
        sender.start()
        source = f"igtl://127.0.0.1:{scanner.port}/"
        summary = app.run(app.Job(source, "threshold", lower=1, frames=3, policy="block"))
        sender.join()
    assert summary.received == summary.sent == 3


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("igtl://:0/Tip", igtl.Image),
        ("contour:igtl://:0/Tip", igtl.PolyData),
        ("transform:igtl://:0", igtl.Transform),
    ],
)
def test_what_a_viewer_gets(word, kind):
    from medseg_fast._app import stream as app
    from medseg_fast.stream import Frame, Pipeline

    image = np.zeros((8, 9), np.uint8)
    image[2:5, 3:6] = 1
    sink = app._sink(word, Frame(image), 25.0, None)
    with igtl.Client(port=sink.endpoint.port) as viewer:
        assert sink.endpoint.wait_clients(1, 20)
        Pipeline([image], lambda frame: frame, sink, policy="all").run()
        found = viewer.receive(20)
    assert isinstance(found, kind)
    assert found.device == ("Tip" if "Tip" in word else "Mask")


def test_demo(tmp_path):
    folder = tmp_path / "demo"
    words = ["stream", "demo", "-o", folder, "--seconds", "1", "--fps", "30"]
    result = run(*words, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    for name in ("nothing", "track-cut"):
        assert found[name]["frames"] == 30
        assert found[name]["lost"] == 0
    assert found["track-cut"]["back"] > 0
    assert (folder / "run.html") in map(type(folder), found["files"])
    with open(folder / "run.jsonl", encoding="utf-8") as log:
        assert "TrackedCut" in log.read()
    assert "exists" in error(run(*words), 1)


def test_demo_follows_the_bone():
    from medseg_fast._app import stream_demo

    frames = stream_demo.frames()
    smooth, follow = stream_demo.steps(frames[0])
    areas = []
    for frame in frames:
        follow(smooth(frame))
        assert not follow.lost
        areas.append(follow.area)
    assert min(areas) > 0.75 * max(areas)
