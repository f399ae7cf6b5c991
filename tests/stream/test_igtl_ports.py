"""A pipeline between two OpenIGTLink peers: a scanner that sends, a viewer that gets masks."""

from __future__ import annotations

import contextlib
import socket
import threading

import numpy as np
import pytest
from _igtl import until

from medseg_fast.io import Volume
from medseg_fast.stream import (
    IgtlSink,
    IgtlSource,
    Pipeline,
    Record,
    Result,
    ThresholdPlan,
    igtl_endpoint,
)
from medseg_fast.stream.igtl import (
    Client,
    Image,
    Limits,
    PolyData,
    Server,
    Status,
    Transform,
    image_from_volume,
    volume_from_image,
)

SHAPE = (24, 32)
WAIT = 20  # s, for what takes milliseconds


def picture(number):
    image = np.zeros(SHAPE, np.uint8)
    image[4:14, 6 : 10 + number] = 200
    return Volume(image, (0.5, 0.25), (10.0, 20.0, 30.0))


@pytest.fixture
def scanner():
    with Server(0) as server:
        yield server


@pytest.fixture
def viewer_port():
    with Server(0) as server:
        yield server


def start(scanner, sink, step=None, **options):
    source = IgtlSource(Client(port=scanner.port, policy="block"), "Probe")
    step = step or ThresholdPlan(SHAPE, np.uint8, 100)
    pipeline = Pipeline(source, step, sink, policy="block", **options).start()
    assert scanner.wait_clients(1, WAIT)
    return pipeline


def test_masks_of_frames_with_their_place_and_time(scanner, viewer_port):
    sink = IgtlSink(viewer_port, "Tumour", version=2)
    viewer = Client(port=viewer_port.port, queue=64)
    assert viewer_port.wait_clients(1, WAIT)
    pipeline = start(scanner, sink)
    scanner.send(Transform(np.eye(4), device="Probe"))  # no image: passed over
    scanner.send(image_from_volume(picture(0), device="Other"))  # of another device
    for number in range(5):
        stamp = 10**18 + number * 10**9
        scanner.send(image_from_volume(picture(number), device="Probe", timestamp_ns=stamp))
        found = viewer.receive(WAIT)
        assert isinstance(found, Image)
        assert found.device == "Tumour"
        assert abs(found.timestamp_ns - stamp) < 1000  # a float's rounding
        assert found.metadata == {"FrameId": str(number), "Status": "ok"}
        volume = volume_from_image(found)
        np.testing.assert_array_equal(volume.array, picture(number).array == 200)
        assert volume.spacing == (0.5, 0.25)
        np.testing.assert_allclose(volume.origin, (10, 20, 30), atol=1e-5)
    summary = pipeline.stop()
    assert summary.counts["ok"] == summary.sent == 5
    assert sink.skipped == 0
    viewer.close()


def test_images_that_change_their_place_and_shape(scanner, viewer_port, rng):
    """What is the same is kept from frame to frame; nothing else may be."""
    viewer = Client(port=viewer_port.port)
    assert viewer_port.wait_clients(1, WAIT)
    grey, colour, volume = ((6, 8), "yx"), ((6, 8, 3), "yxc"), ((4, 6, 8), "zyx")
    turned = np.array([[0.0, 1], [0, 0], [1, 0]])
    places = [
        (*grey, (0.5, 0.5), (0, 0, 0), None),
        (*grey, (0.5, 0.5), (0, 0, 7), None),
        (*grey, (0.5, 0.5), (0, 0, 7), turned),
        (*grey, (0.25, 0.5), (0, 0, 7), turned),
        (*colour, (0.25, 0.5), (0, 0, 7), turned),
        (*volume, (2, 0.25, 0.5), (0, 0, 7), None),
        ((6, 9), "yx", (0.25, 0.5), (0, 0, 7), None),
    ]
    pipeline = start(scanner, IgtlSink(viewer_port), step=lambda image: image)
    for shape, axes, spacing, origin, direction in [p for p in places for _ in range(3)]:
        pixels = rng.integers(0, 255, shape, np.uint8)
        sent = Volume(pixels, spacing, origin, direction, axes=axes)
        scanner.send(image_from_volume(sent, device="Probe"))
        found = volume_from_image(viewer.receive(WAIT))
        assert found.axes == axes
        np.testing.assert_array_equal(found.array, pixels)
        np.testing.assert_allclose(found.affine_lps, sent.affine_lps, atol=1e-5)
    assert pipeline.stop().counts["ok"] == 3 * len(places)
    viewer.close()


def test_contours(scanner, viewer_port):
    pytest.importorskip("skimage", reason="contours need scikit-image")
    viewer = Client(port=viewer_port.port)
    assert viewer_port.wait_clients(1, WAIT)
    pipeline = start(scanner, IgtlSink(viewer_port, what="contour"))
    scanner.send(image_from_volume(picture(3), device="Probe"))
    found = viewer.receive(WAIT)
    assert isinstance(found, PolyData)
    assert len(found.points) > 4
    x = -found.points[:, 0]  # RAS to LPS
    y = -found.points[:, 1]
    # Rows 4 to 13 and columns 6 to 12, half a pixel more on each side.
    np.testing.assert_allclose([x.min(), x.max()], [10 + 5.5 * 0.25, 10 + 12.5 * 0.25], atol=1e-4)
    np.testing.assert_allclose([y.min(), y.max()], [20 + 3.5 * 0.5, 20 + 13.5 * 0.5], atol=1e-4)
    pipeline.stop()
    viewer.close()


def test_where_the_mask_is(scanner, viewer_port):
    viewer = Client(port=viewer_port.port)
    assert viewer_port.wait_clients(1, WAIT)
    pipeline = start(scanner, IgtlSink(viewer_port, "Centre", what="transform", version=2))
    scanner.send(image_from_volume(picture(4), device="Probe"))
    found = viewer.receive(WAIT)
    assert isinstance(found, Transform)
    # The centre of rows 4 to 13 of 0.5 mm and columns 6 to 13 of 0.25 mm; LPS to RAS.
    expected = np.diag([-1.0, -1.0, 1.0, 1.0])
    expected[:3, 3] = -(10 + 9.5 * 0.25), -(20 + 8.5 * 0.5), 30
    np.testing.assert_allclose(found.matrix, expected, atol=1e-5)
    empty = Volume(np.zeros(SHAPE, np.uint8), (0.5, 0.25))
    scanner.send(image_from_volume(empty, device="Probe"))
    found = viewer.receive(WAIT)
    assert isinstance(found, Status)
    assert (found.code, found.device, found.metadata["FrameId"]) == (16, "Centre", "1")
    pipeline.stop()
    viewer.close()


class Relay:
    """A network between one client and a server, which can be cut: nothing gets through then."""

    def __init__(self, port):
        self.up = threading.Event()
        self.up.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._run(self._accept, port)

    def _run(self, job, *arguments):
        threading.Thread(target=job, args=arguments, daemon=True).start()

    def _accept(self, port):
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", port))
            self._sockets += [near, far]
            self._run(self._pass, near, far)
            self._run(self._pass, far, near)

    def _pass(self, origin, to):
        try:
            while data := origin.recv(1 << 16):
                self.up.wait()
                to.sendall(data)
        except OSError:
            pass

    def close(self):
        self.up.set()
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


def test_a_network_that_is_cut(scanner):
    """The last mask goes out as stale meanwhile; then the stream goes on, all frames counted."""
    relay = Relay(scanner.port)
    masks = []
    source = IgtlSource(Client(port=relay.port, policy="block"))
    pipeline = Pipeline(source, lambda image: image, masks.append, policy="all", watchdog_ms=50)
    with pipeline:
        assert scanner.wait_clients(1, WAIT)

        def send(numbers):
            for number in numbers:
                scanner.send(image_from_volume(picture(number), device="Probe"))

        def statuses():
            return [result.record.status for result in masks]

        send(range(3))
        assert until(lambda: statuses().count("ok") == 3)
        relay.up.clear()
        send(range(3, 5))
        before = statuses().count("stale")
        assert until(lambda: statuses().count("stale") > before + 2)
        assert statuses().count("ok") == 3
        relay.up.set()
        assert until(lambda: statuses().count("ok") == 5)
    stale = {result.record.id for result in masks if result.record.status == "stale"}
    assert 2 in stale
    assert pipeline.summary.received == 5
    relay.close()


def test_stale_masks_are_announced(scanner, viewer_port):
    viewer = Client(port=viewer_port.port, queue=64)
    assert viewer_port.wait_clients(1, WAIT)
    pipeline = start(scanner, IgtlSink(viewer_port, version=2), watchdog_ms=50)
    scanner.send(image_from_volume(picture(1), device="Probe"))
    first = viewer.receive(WAIT)
    assert first.metadata["Status"] == "ok"
    status, again = viewer.receive(WAIT), viewer.receive(WAIT)
    assert isinstance(status, Status)
    assert (status.code, status.error_name) == (13, "Stale")
    assert again.metadata == {"FrameId": "0", "Status": "stale"}
    np.testing.assert_array_equal(again.pixels, first.pixels)
    pipeline.stop()
    viewer.close()


def test_a_lost_viewer_and_a_lost_scanner_do_not_stop_the_stream(scanner, viewer_port):
    sink = IgtlSink(viewer_port)
    seen = threading.Semaphore(0)
    pipeline = start(scanner, [sink, lambda result: seen.release()])
    scanner.send(image_from_volume(picture(1), device="Probe"))
    assert seen.acquire(timeout=WAIT)
    assert sink.skipped == 1  # nobody looks
    port = scanner.port
    scanner.close()
    with Server(port) as again:  # the scanner comes back
        assert again.wait_clients(1, WAIT)
        again.send(image_from_volume(picture(2), device="Probe"))
        assert seen.acquire(timeout=WAIT)
        summary = pipeline.stop()
    assert summary.sent == 2
    assert summary.counts["error"] == 0


def test_an_image_that_lies_nowhere_is_passed_over(scanner, caplog):
    seen = threading.Semaphore(0)
    source = IgtlSource(Client(port=scanner.port))
    with Pipeline(source, lambda image: image, lambda result: seen.release()) as pipeline:
        assert scanner.wait_clients(1, WAIT)
        matrix = np.eye(3, 4)
        matrix[:, 0] = 0
        scanner.send(Image(np.zeros((1, 3, 4), np.uint8), matrix))
        scanner.send(image_from_volume(picture(1)))
        assert seen.acquire(timeout=WAIT)
    assert pipeline.summary.received == pipeline.summary.sent == 1
    assert source.rejected == 1
    assert "image rejected: volume_from_image: matrix must have no step of 0" in caplog.text


def test_no_image_is_lost_before_the_pipeline(scanner):
    """Also with an endpoint that would drop: the pipeline alone decides."""
    endpoint, _ = igtl_endpoint(f"igtl://127.0.0.1:{scanner.port}")
    source, go = IgtlSource(endpoint), threading.Event()
    numbers = []

    def step(image):
        assert go.wait(WAIT)
        return image

    pipeline = Pipeline(source, step, lambda r: numbers.append(int(r.mask[0, 0])), policy="all")
    with pipeline:
        assert scanner.wait_clients(1, WAIT)
        for number in range(40):
            scanner.send(Image(np.full((1, 6, 8), number, np.uint8)))
        assert until(lambda: endpoint.stats["received"] > 10)
        go.set()
        assert until(lambda: len(numbers) == 40)
    assert numbers == list(range(40))
    assert endpoint.stats["dropped"] == 0


def test_pixels_of_the_other_byte_order(scanner):
    found = []
    pixels = np.arange(48, dtype=">u2").reshape(1, 6, 8)
    source = IgtlSource(Client(port=scanner.port))
    step = ThresholdPlan((6, 8), np.uint16, 30)
    pipeline = Pipeline(source, step, lambda result: found.append(result.mask.copy()))
    pipeline.start(frames=1)
    assert scanner.wait_clients(1, WAIT)
    scanner.send(Image(pixels))
    assert pipeline.wait(WAIT)
    assert pipeline.stop().counts["ok"] == 1
    np.testing.assert_array_equal(found[0], pixels[0] >= 30)


def test_a_source_that_gave_all_frames_asked_for_is_closed():
    server = Server(0)
    pipeline = Pipeline(IgtlSource(server), lambda image: image).start(frames=1)
    with Client(port=server.port) as client:
        assert client.wait_connected(WAIT)
        client.send(image_from_volume(picture(1)))
        assert pipeline.wait(WAIT)
        pipeline.stop()
    Server(server.port).close()  # the port is free


def test_a_viewer_that_stops_reading_holds_nothing_up():
    """What it does not take is skipped, and counted."""
    masks = [np.ones((2000, 2000), np.uint8)] * 40
    with socket.create_server(("127.0.0.1", 0)) as viewer:
        # Whoever waited for it would wait for an hour.
        client = Client(port=viewer.getsockname()[1], limits=Limits(stall=3600))
        sink = IgtlSink(client)
        assert client.wait_connected(WAIT)
        summary = Pipeline(masks, lambda image: image, sink, policy="all").run()
    assert summary.counts["ok"] == len(masks)
    assert 40 - 8 - 16 <= sink.skipped <= 40  # 8 wait, some are in the kernel's buffers


def test_a_stale_mask_that_nobody_got_counts_once(viewer_port):
    sink, mask = IgtlSink(viewer_port), np.ones((3, 4), np.uint8)
    record = Record(0, None, 0, status="stale", reason="no mask")
    sink(Result(mask, None, record))
    assert sink.skipped == 1


def test_stop_while_nothing_comes(scanner):
    summary = start(scanner, ()).stop()
    assert summary.received == 0


def test_addresses():
    endpoint, device = igtl_endpoint("igtl://:0/Probe")
    assert isinstance(endpoint, Server)
    assert device == "Probe"
    client, device = igtl_endpoint(f"igtl://127.0.0.1:{endpoint.port}")
    assert client.wait_connected(WAIT)
    assert device == ""
    client.close()
    endpoint.close()
    for wrong in ("http://host:1", "igtl://host:99999", "igtl://host:1/d?x=1", "host:1"):
        with pytest.raises(ValueError, match="igtl_endpoint: must be"):
            igtl_endpoint(wrong)
    with pytest.raises(ValueError, match="what must be image, contour or transform"):
        IgtlSink(None, what="mesh")
    with pytest.raises(ValueError, match="version must be 1, 2 or 3"):
        IgtlSink(None, version=4)
