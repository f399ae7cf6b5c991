"""Where frames come from and where masks go."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest

from medseg_fast import io, stream
from medseg_fast.stream import (
    FolderSink,
    Frame,
    Paced,
    Pipeline,
    Record,
    Result,
    SharedRing,
    SharedRingReader,
    VideoSink,
    VideoSource,
    frames_of,
)


def test_paced_gives_all_in_order_and_not_early():
    begin = time.perf_counter()
    given = []
    for frame in Paced([np.full(2, i) for i in range(5)], 100):
        given.append((int(frame.array[0]), time.perf_counter() - begin, frame.captured))
    assert [number for number, _, _ in given] == list(range(5))
    for number, when, _ in given:
        assert when >= number / 100
    gaps = np.diff([captured for *_, captured in given])
    np.testing.assert_allclose(gaps, 0.01, atol=1e-6)


def test_paced_repeats_and_ends():
    source = Paced([np.zeros(1), np.ones(1)], 2000, repeat=True)
    seen = []
    for frame in source:
        seen.append(int(frame.array[0]))
        if len(seen) == 5:
            source.close()
    assert seen == [0, 1, 0, 1, 0]
    assert list(Paced([], 10, repeat=True)) == []
    with pytest.raises(ValueError, match="fps must be positive"):
        Paced([], 0)


def test_frames_of_a_folder_in_natural_order(tmp_path, rng):
    Image = pytest.importorskip("PIL.Image", reason="pictures need the extra io")
    for number in (10, 9, 1, 2):
        Image.fromarray(np.full((4, 5), number, np.uint8)).save(tmp_path / f"f{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    found = [int(frame.array[0, 0]) for frame in frames_of(tmp_path)]
    assert found == [1, 2, 9, 10]
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        list(frames_of(tmp_path / "empty"))
    with pytest.raises(FileNotFoundError):
        list(frames_of(tmp_path / "absent.mha"))
    with pytest.raises(ValueError, match="is one image"):
        list(frames_of(tmp_path / "f1.png"))


def test_frames_of_a_volume(tmp_path, rng):
    pytest.importorskip("nibabel", reason="NIfTI needs the extra io")
    volume = rng.integers(0, 99, (3, 4, 5), np.int16)
    io.write(tmp_path / "v.nii.gz", io.Volume(volume))
    found = [frame.array for frame in frames_of(tmp_path / "v.nii.gz")]
    np.testing.assert_array_equal(found, volume)


def test_frames_of_a_multi_frame_dicom(tmp_path, rng):
    """A cine loop, as ultrasound scanners store it."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    frames = rng.integers(0, 256, (5, 6, 7), np.uint8)
    d = pydicom.Dataset()
    d.file_meta = pydicom.dataset.FileMetaDataset()
    d.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    d.SOPClassUID = d.file_meta.MediaStorageSOPClassUID = UltrasoundMultiFrameImageStorage
    d.SOPInstanceUID = d.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    d.SeriesInstanceUID, d.Modality, d.PatientName = generate_uid(), "US", "Doe^Jane"
    d.NumberOfFrames, d.Rows, d.Columns = frames.shape
    d.SamplesPerPixel, d.PhotometricInterpretation, d.PixelRepresentation = 1, "MONOCHROME2", 0
    d.BitsAllocated, d.BitsStored, d.HighBit = 8, 8, 7
    d.FrameTime, d.FrameIncrementPointer = "33.3", 0x00181063
    d.PixelData = frames.tobytes() + b"\0" * (frames.size % 2)
    d.save_as(tmp_path / "cine.dcm", enforce_file_format=True)
    found = [frame.array for frame in frames_of(tmp_path / "cine.dcm")]
    np.testing.assert_array_equal(found, frames)


def test_folder_sink(tmp_path):
    pytest.importorskip("PIL.Image", reason="pictures need the extra io")
    images = [np.full((4, 5), i, np.uint8) for i in range(3)]
    sink = FolderSink(tmp_path / "masks")
    summary = Pipeline(images, lambda a: a > 1, sink, policy="all").run()
    assert summary.counts["ok"] == 3
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names == [f"mask00000{i}.png" for i in range(3)]
    np.testing.assert_array_equal(io.read(tmp_path / "masks" / names[2]).array, 1)
    sink(Result(images[0], None, Record(7, None, 0)))  # a stale mask: no file
    assert len(list((tmp_path / "masks").iterdir())) == 3
    with pytest.raises(FileExistsError, match="has masks already"):
        FolderSink(tmp_path / "masks")
    FolderSink(tmp_path / "masks", ".npy")
    with pytest.raises(ValueError, match="none of the known suffixes"):
        FolderSink(tmp_path / "others", ".xyz")
    assert list((tmp_path / "others").iterdir()) == []


def test_video_there_and_back(tmp_path):
    pytest.importorskip("cv2", reason="video needs the extra stream")
    images = [np.full((48, 64), 60 * i, np.uint8) for i in range(4)]
    images[3][10:30, 20:40] = 0
    path = tmp_path / "v.avi"
    sink = VideoSink(path, 10, colour=(255, 0, 0))
    Pipeline(images, lambda a: a == 0, sink, policy="all").run()
    assert [p.name for p in tmp_path.iterdir()] == ["v.avi"]
    source = VideoSource(path, grey=False)
    assert source.fps == 10
    found = [frame.array for frame in source]
    assert len(found) == 4
    assert abs(int(found[2][24, 32, 0]) - 120) < 6
    edge = found[3][10, 30].astype(int)
    assert edge[0] - edge[2] > 80  # red
    with pytest.raises(FileExistsError):
        VideoSink(path, 10)
    with pytest.raises(ValueError, match=r"must end with .mp4 or .avi"):
        VideoSink(tmp_path / "v.gif", 10)
    with pytest.raises(FileNotFoundError):
        VideoSource(tmp_path / "absent.mp4")
    (tmp_path / "no.mp4").write_bytes(b"not a video")
    with pytest.raises(ValueError, match="cannot open"):
        VideoSource(tmp_path / "no.mp4")


def test_a_video_tells_of_every_frame_that_it_lacks(tmp_path, monkeypatch, caplog):
    cv2 = pytest.importorskip("cv2", reason="video needs the extra stream")
    images = [np.zeros((48, 64), np.uint8), np.zeros((32, 64), np.uint8)] * 2
    summary = Pipeline(
        images, lambda a: a == 0, VideoSink(tmp_path / "w.avi", 10), policy="all"
    ).run()
    assert (summary.counts["ok"], summary.counts["error"]) == (2, 2)
    assert len(list(VideoSource(tmp_path / "w.avi"))) == 2
    assert "VideoSink: ValueError: VideoSink: frames must be (64, 48)" in caplog.text
    with pytest.raises(FileNotFoundError, match="no such folder"):
        VideoSink(tmp_path / "absent" / "x.avi", 10)
    for fps in (np.inf, 0):
        with pytest.raises(ValueError, match="fps must be positive"):
            VideoSink(tmp_path / "x.avi", fps)

    class Closed:
        def isOpened(self):
            return False

    sink = VideoSink(tmp_path / "x.avi", 10)
    monkeypatch.setattr(cv2, "VideoWriter", lambda *arguments: Closed())
    summary = Pipeline(images, lambda a: a == 0, sink, policy="all").run()
    assert summary.counts["error"] == 4


_READER = """
import sys
from medseg_fast.stream import SharedRingReader
reader = SharedRingReader(sys.argv[1])
found = reader.latest()
print(found.id, int(found.mask.sum()), found.mask.shape, found.mask.dtype, found.stale)
reader.close()
"""


def test_shared_ring_from_another_process():
    name = f"msf_test_ring_{os.getpid()}"  # of this run alone
    ring = SharedRing(name, (4, 6), np.uint8, slots=3)
    try:
        reader = SharedRingReader(name)
        assert reader.latest() is None
        for number in range(7):
            mask = np.full((4, 6), number, np.uint8)
            ring(Result(mask, Frame(mask), Record(number, None, 0)))
            found = reader.latest()
            assert found.id == number
            assert (found.mask == number).all()
        ring(Result(mask, None, Record(6, None, 0)))
        assert reader.latest().stale
        run = [sys.executable, "-c", _READER, name]
        done = subprocess.run(run, capture_output=True, text=True, check=True)
        assert done.stdout.split() == ["6", "144", "(4,", "6)", "uint8", "True"]
        assert reader.latest().id == 6  # its end did not take the ring away
        reader.close()
        with pytest.raises(FileExistsError):
            SharedRing(name, (4, 6))
        for wrong in (np.ones((1, 6), np.uint8), np.uint8(1)):
            with pytest.raises(ValueError, match=r"masks must have shape \(4, 6\), got"):
                ring(Result(wrong, None, Record(7, None, 0)))
    finally:
        ring.close()
    with pytest.raises(ValueError, match="shape must be at least 1, got -1"):
        SharedRing(name, (-1, 3))
    with pytest.raises(FileNotFoundError):
        SharedRingReader(name)
    with pytest.raises(ValueError, match="must be bool or integer of 1 to 4 axes"):
        SharedRing(name, (4,), np.float32)


def test_exports():
    for name in stream.__all__:
        assert getattr(stream, name) is not None
