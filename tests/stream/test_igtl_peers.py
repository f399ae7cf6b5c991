"""OpenIGTLink against two independent implementations: pyigtl and the C++ library."""

import dataclasses
import shutil
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from _igtl import SOON, until, wire

from medseg_fast.stream.igtl import (
    Attribute,
    Client,
    Image,
    PolyData,
    Query,
    Server,
    Status,
    Transform,
    decode_bytes,
    split_cells,
)

PEER = Path(__file__).with_name("igtl_peer.cpp")
SCALARS = "i1 u1 i2 u2 i4 u4 f4 f8".split()
TIME = 1_700_000_000_123_456_789


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def oblique(rng):
    matrix = np.empty((3, 4))
    matrix[:, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * [0.5, 0.75, 2.5]
    matrix[:, 3] = [10, -20, 30]
    return matrix


# ---- Debian's libopenigtlink --------------------------------------------------------------------


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """The C++ peer."""
    include = Path("/usr/include/openigtlink")
    if not (include / "igtlImageMessage.h").exists():
        pytest.skip("needs the C++ library: apt-get install libopenigtlink-dev")
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    program = tmp_path_factory.mktemp("igtl") / "peer"
    command = ["g++", "-w", f"-I{include}", PEER, "-o", program, "-lOpenIGTLink", "-lpthread"]
    subprocess.run(command, check=True)
    return program


@pytest.fixture(params=["connect", "listen"])
def echo(request, peer):
    """Sends a message to the peer, which connects or listens, and returns its answer."""
    port = free_port()
    if request.param == "connect":
        end = Server(port)
        process = subprocess.Popen([peer, "connect", str(port)])
        assert end.wait_clients(1, SOON)
    else:
        process = subprocess.Popen([peer, "listen", str(port)])
        end = Client(port=port)
        assert end.wait_connected(SOON)

    def ask(message):
        end.send(message)
        answer = end.receive(SOON)
        assert answer is not None, "no answer: the peer found the CRC or the message wrong"
        return answer

    yield ask
    end.close()
    assert process.wait(SOON) == 0


def same_header(sent, got):
    assert type(got) is type(sent)
    assert got.device == sent.device
    # The library's own way from nanoseconds to 2^-32 s loses one of them.
    assert abs(got.timestamp_ns - sent.timestamp_ns) <= 1


def same_image(sent, got):
    same_header(sent, got)
    assert got.pixels.dtype == sent.pixels.dtype
    np.testing.assert_array_equal(got.pixels, sent.pixels)
    np.testing.assert_allclose(got.matrix, sent.matrix, atol=1e-5)
    assert (got.coordinates, got.size, got.offset) == (sent.coordinates, sent.size, sent.offset)


def test_cpp_images(echo, rng):
    for scalar in SCALARS:
        for order in "<>":
            pixels = rng.integers(0, 100, (2, 3, 4)).astype(scalar).astype(order + scalar)
            sent = Image(pixels, oblique(rng), device="Probe", timestamp_ns=TIME)
            same_image(sent, echo(sent))


def test_cpp_frames(echo, rng):
    sent = Image(rng.integers(0, 256, (1, 480, 640, 3), np.uint8), oblique(rng), "RAS")
    same_image(sent, echo(sent))


def test_cpp_part_of_an_image(echo, rng):
    pixels = rng.integers(0, 256, (2, 3, 4), np.uint8)
    sent = Image(pixels, oblique(rng), size=(9, 8, 7), offset=(1, 2, 3))
    same_image(sent, echo(sent))


def test_cpp_transform(echo, rng):
    matrix = np.eye(4)
    matrix[:3] = oblique(rng)
    sent = Transform(matrix, device="Needle", timestamp_ns=TIME)
    got = echo(sent)
    same_header(sent, got)
    np.testing.assert_allclose(got.matrix, matrix, atol=1e-5)


def test_cpp_status(echo):
    sent = Status(11, -5, "Error", "no disk left", device="Disk", timestamp_ns=TIME)
    got = echo(sent)
    same_header(sent, got)
    assert (got.code, got.subcode, got.error_name, got.text) == (11, -5, "Error", "no disk left")


def test_cpp_polydata(echo, rng):
    sent = PolyData(
        rng.normal(size=(6, 3)),
        vertices=[[0], [5]],
        lines=[[0, 1, 2, 0], [3, 4]],
        polygons=[[0, 1, 2], [3, 4, 5, 0]],
        strips=[[0, 1, 2, 3]],
        attributes=[
            Attribute("label", [1, 2, 3, 4, 5, 6]),
            Attribute("normal", rng.normal(size=(6, 3)), "normals"),
            Attribute("speed", rng.random((6, 3)), "vectors"),
            Attribute("texture", rng.random((6, 2))),
            Attribute("stress", rng.random((6, 9)), "tensors"),
        ],
        device="Contour",
        timestamp_ns=TIME,
    )
    got = echo(sent)
    same_header(sent, got)
    np.testing.assert_array_equal(got.points, sent.points)
    for name in ("vertices", "lines", "polygons", "strips"):
        assert getattr(got, name).tolist() == getattr(sent, name).tolist()
    for a, b in zip(got.attributes, sent.attributes, strict=True):
        assert (a.name, a.kind, a.of) == (b.name, b.kind, b.of)
        np.testing.assert_array_equal(a.values, b.values)


@pytest.mark.parametrize("target", ["IMAGE", "TRANSFORM", "POLYDATA", "STATUS"])
def test_cpp_queries(echo, target):
    name = echo(Query("GET", target)).text
    assert name == {"TRANSFORM": "GET_TRANS"}.get(target, f"GET_{target}")
    assert decode_bytes(wire(Query("GET", target))).target == target


# ---- pyigtl --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pyigtl():
    return pytest.importorskip("pyigtl", reason="needs pyigtl: pip install pyigtl")


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scalar", SCALARS)
def test_pyigtl_reads_what_we_write(pyigtl, rng, scalar, version):
    sent = Image(
        rng.integers(0, 100, (2, 3, 4)).astype(scalar),
        oblique(rng),
        device="Probe",
        timestamp_ns=TIME,
        version=version,
        metadata={"key": "value", "Ort": "Köln"} if version == 2 else {},
        message_id=9 if version == 2 else 0,
    )
    data = wire(sent)
    fields = pyigtl.messages.MessageBase.parse_header(data[:58])
    got = pyigtl.ImageMessage()
    got.unpack(fields, data[58:])
    assert got.device_name == "Probe"
    assert abs(got.timestamp - TIME * 1e-9) < 1e-6
    assert got.metadata == sent.metadata
    assert got.message_id == sent.message_id
    np.testing.assert_array_equal(got.image, sent.pixels)
    # Its position is the first pixel's.
    first = sent.matrix @ [-1.5, -1, -0.5, 1]
    np.testing.assert_allclose(got.ijk_to_world_matrix[:3, 3], first, atol=1e-4)
    np.testing.assert_allclose(got.ijk_to_world_matrix[:3, :3], sent.matrix[:, :3], atol=1e-5)


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("scalar", SCALARS)
def test_we_read_what_pyigtl_writes(pyigtl, rng, scalar, version):
    pixels = rng.integers(0, 100, (2, 3, 4, 2)).astype(scalar)
    sent = pyigtl.ImageMessage(pixels, device_name="Probe", timestamp=1234.5)
    sent.header_version = version
    if version == 2:
        sent.metadata, sent.message_id = {"key": "value"}, 9
    got = decode_bytes(sent.pack())
    np.testing.assert_array_equal(got.pixels, pixels)
    assert (got.device, got.coordinates, got.version) == ("Probe", "LPS", version)
    assert abs(got.timestamp_ns - 1234.5e9) < 10
    assert got.metadata == sent.metadata
    np.testing.assert_allclose(got.matrix[:, 3], [1.5, 1, 0.5])


def test_pyigtl_transform_and_polydata(pyigtl, rng):
    matrix = np.eye(4)
    matrix[:3] = oblique(rng)
    got = decode_bytes(pyigtl.TransformMessage(matrix).pack())
    np.testing.assert_allclose(got.matrix, matrix, atol=1e-5)
    data = wire(Transform(matrix))
    theirs = pyigtl.TransformMessage()
    theirs.unpack(pyigtl.messages.MessageBase.parse_header(data[:58]), data[58:])
    np.testing.assert_allclose(theirs.matrix, matrix, atol=1e-5)

    points = rng.normal(size=(4, 3))
    polygons = np.array([3, 0, 1, 2, 3, 1, 2, 3])
    got = decode_bytes(pyigtl.PolyDataMessage(points=points, polygons=polygons).pack())
    np.testing.assert_array_equal(got.points, points.astype(np.float32))
    assert [c.tolist() for c in split_cells(got.polygons)] == [[0, 1, 2], [1, 2, 3]]


def test_pyigtl_client_of_our_server(pyigtl, rng):
    pixels = rng.integers(0, 256, (1, 48, 64), np.uint8)
    with Server(0) as server:
        client = pyigtl.OpenIGTLinkClient("127.0.0.1", server.port)
        try:
            assert server.wait_clients(1, SOON)
            server.send(Image(pixels, device="Probe"))
            got = client.wait_for_message("Probe", SOON)
            np.testing.assert_array_equal(got.image, pixels)
            client.send_message(pyigtl.ImageMessage(pixels, device_name="Back"), wait=False)
            back = server.receive(SOON)
            assert back.device == "Back"
            np.testing.assert_array_equal(back.pixels, pixels)
        finally:
            client.stop()


def test_our_client_of_pyigtls_server(pyigtl, rng):
    pixels = rng.integers(0, 256, (1, 48, 64), np.uint8)
    server = pyigtl.OpenIGTLinkServer(free_port(), local_server=True)
    try:
        with Client(port=server.port) as client:
            assert client.wait_connected(SOON)
            assert until(server.is_connected)
            server.send_message(pyigtl.ImageMessage(pixels, device_name="Probe"), wait=False)
            np.testing.assert_array_equal(client.receive(SOON).pixels, pixels)
            client.send(Image(pixels, device="Back"))
            got = server.wait_for_message("Back", SOON)
            np.testing.assert_array_equal(got.image, pixels)
    finally:
        server.stop()


def test_every_field_is_compared():
    """The tests above name the fields: a new one must be added to them."""
    fields = {
        f.name for kind in (Image, Transform, Status, PolyData) for f in dataclasses.fields(kind)
    }
    assert fields == set(
        "device timestamp_ns version message_id metadata received_ns sender pixels matrix "
        "coordinates size offset code subcode error_name text points vertices lines polygons "
        "strips attributes".split()
    )
