"""OpenIGTLink messages: what goes in comes out, and what is wrong is refused."""

import dataclasses
import struct
import tracemalloc

import numpy as np
import pytest
from _igtl import common, text, wire
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medseg_fast.stream.igtl import (
    Attribute,
    Image,
    PolyData,
    ProtocolError,
    Query,
    Raw,
    Status,
    Transform,
    crc64,
    decode_bytes,
    encode,
    join_cells,
    parse_header,
    split_cells,
)
from medseg_fast.stream.igtl import polydata as polydata_module

SCALARS = "i1 u1 i2 u2 i4 u4 f4 f8".split()
quick = settings(max_examples=40, deadline=None)
floats = st.floats(-1000, 1000, width=32)


def same(sent, got):
    assert type(got) is type(sent)
    for field in dataclasses.fields(sent):
        if field.name in ("received_ns", "sender"):
            continue
        a, b = getattr(sent, field.name), getattr(got, field.name)
        if field.name == "attributes":
            assert [(x.name, x.kind, x.of) for x in a] == [(x.name, x.kind, x.of) for x in b]
            for x, y in zip(a, b, strict=True):
                np.testing.assert_array_equal(x.values, y.values)
        elif isinstance(a, np.ndarray):
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b, field.name


@st.composite
def images(draw):
    dtype = np.dtype(draw(st.sampled_from(SCALARS))).newbyteorder(draw(st.sampled_from("<>")))
    shape = draw(st.tuples(*[st.integers(1, 5)] * 3))
    components = draw(st.integers(1, 4))
    pixels = draw(hnp.arrays(dtype, shape if components == 1 else (*shape, components)))
    offset = draw(st.tuples(*[st.integers(0, 9)] * 3))
    more = draw(st.tuples(*[st.integers(0, 9)] * 3))
    return Image(
        pixels,
        draw(hnp.arrays(np.float32, (3, 4), elements=floats)),
        draw(st.sampled_from(["LPS", "RAS"])),
        tuple(o + n + m for o, n, m in zip(offset, shape, more, strict=True)),
        offset,
        **draw(common()),
    )


@st.composite
def transforms(draw):
    matrix = np.eye(4)
    matrix[:3] = draw(hnp.arrays(np.float32, (3, 4), elements=floats))
    return Transform(matrix, **draw(common()))


@st.composite
def statuses(draw):
    numbers = draw(st.tuples(st.integers(0, 65535), st.integers(-(2**63), 2**63 - 1)))
    name = draw(st.text("Errorä", max_size=10))
    return Status(*numbers, name, draw(text), **draw(common()))


@st.composite
def polydata(draw):
    points = draw(hnp.arrays(np.float32, (draw(st.integers(1, 6)), 3), elements=floats))
    cell = st.lists(st.integers(0, len(points) - 1), max_size=4)
    cells = [join_cells(draw(st.lists(cell, max_size=4))) for _ in range(4)]
    attributes = []
    for _ in range(draw(st.integers(0, 3))):
        kind, n = draw(
            st.sampled_from(
                [
                    ("scalars", 1),
                    ("scalars", 7),
                    ("vectors", 3),
                    ("normals", 3),
                    ("tensors", 9),
                    ("rgba", 4),
                ]
            )
        )
        values = draw(hnp.arrays(np.float32, (draw(st.integers(0, 5)), n)))
        of = draw(st.sampled_from(["points", "cells"]))
        attributes.append(Attribute(draw(text), values, kind, of))
    return PolyData(points, *cells, attributes, **draw(common()))


@st.composite
def queries(draw):
    action = draw(st.sampled_from(Query.ACTIONS))
    target = draw(st.sampled_from(["IMAGE", "TRANSFORM", "POLYDATA", "STATUS", "TDATA", "X"]))
    return Query(action, target, draw(st.binary(max_size=9)), **draw(common()))


@st.composite
def others(draw):
    body = np.frombuffer(draw(st.binary(max_size=40)), np.uint8)
    return Raw(
        draw(st.sampled_from(["STRING", "A", "GETIMAGE", "GET_", "TWELVE_CHARS"])),
        body,
        **draw(common()),
    )


every_kind = st.one_of(images(), transforms(), statuses(), polydata(), queries(), others())


@quick
@given(every_kind)
def test_round_trip(message):
    data = wire(message)
    got = decode_bytes(data)
    same(message, got)
    assert wire(got)[58:] == data[58:]  # the timestamp's unit is finer than 1 ns


@quick
@given(st.integers(0, (10**9 << 32) - 1))
def test_timestamps_keep_their_nanoseconds(time):
    assert parse_header(wire(Status(timestamp_ns=time))[:58]).timestamp_ns == time


@settings(max_examples=150, deadline=None)
@given(every_kind, st.data())
def test_damaged_bytes_raise_protocol_error_only(message, data):
    """Bytes changed, cut or added; the CRC made to fit, so that the fields' checks are met."""
    raw = bytearray(wire(message))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.sampled_from([0, 1, 2, 127, 128, 255]) | st.integers(0, 255))
    cut = data.draw(st.integers(-9, 9))
    raw = raw[:cut] if cut < 0 else raw + bytes(cut)
    if len(raw) >= 58:
        raw[42:50] = (len(raw) - 58).to_bytes(8, "big")
        raw[50:58] = crc64(bytes(raw[58:])).to_bytes(8, "big")
    tracemalloc.start()
    try:
        got = decode_bytes(bytes(raw))
        wire(got)  # what is accepted can be sent on
    except ProtocolError:
        pass
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


@quick
@given(st.binary(max_size=200))
def test_garbage(data):
    with pytest.raises(ProtocolError):
        decode_bytes(data)


def image_bytes(**change):
    """A 4 x 3 x 2 image's message with a field of the image header changed."""
    fields = {
        "version": 1, "components": 1, "scalar": 3, "endian": 2, "frame": 2,
        "size": (4, 3, 2), "matrix": np.eye(4, 3).ravel(), "offset": (0, 0, 0), "part": (4, 3, 2),
        "pixels": bytes(24),
    } | change  # fmt: skip
    head = struct.pack(
        ">HBBBB3H12f6H", *[fields[k] for k in "version components scalar endian frame".split()],
        *fields["size"], *fields["matrix"], *fields["offset"], *fields["part"],
    )  # fmt: skip
    body = head + fields["pixels"]
    return struct.pack(">H12s20sQQQ", 1, b"IMAGE", b"", 0, len(body), crc64(body)) + body


def test_the_helper_is_right():
    assert decode_bytes(image_bytes()).pixels.shape == (2, 3, 4)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 2}, "version must be 1"),
        ({"components": 0}, "empty"),
        ({"components": 2}, "take 48 bytes, got 24"),
        ({"scalar": 9}, "unknown scalar type 9"),
        ({"endian": 0}, "byte order"),
        ({"frame": 3}, "coordinates"),
        ({"size": (4, 3, 1)}, "exceeds the image's"),
        ({"part": (0, 3, 2)}, "empty"),
        ({"offset": (1, 0, 0)}, "exceeds the image's"),
        ({"offset": (65535, 0, 0)}, "exceeds the image's"),
        ({"size": (65535,) * 3, "part": (65535,) * 3, "scalar": 11, "components": 255}, "take 5"),
        ({"matrix": [np.nan] * 12}, "finite"),
        ({"matrix": [np.inf, *[0] * 11]}, "finite"),
        ({"pixels": bytes(23)}, "got 23"),
        ({"pixels": bytes(25)}, "got 25"),
        ({"pixels": b""}, "got 0"),
    ],
)
def test_image_fields(change, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode_bytes(image_bytes(**change))


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (0, b"\0\0", "version must be 1, 2 or 3, got 0"),
        (0, b"\0\4", "version must be 1, 2 or 3, got 4"),
        (2, b"\0", "type must be"),
        (2, b"\xff", "type must be"),
        (2, b"IM AGE", "type must be"),
        (14, b"\xff\xfe", "device must be"),
        (14, b"a\nb", "device must be"),
        (42, b"\x7f" * 8, "at most 1073741824 bytes"),
        (50, bytes(8), "CRC must be 0x0000000000000000"),
        (60, b"\7", "CRC must be"),
    ],
)
def test_header_fields(at, value, reason):
    data = bytearray(image_bytes())
    data[at : at + len(value)] = value
    with pytest.raises(ProtocolError, match=reason):
        decode_bytes(bytes(data))


def test_limit_of_the_body():
    data = image_bytes()
    assert parse_header(data[:58], 96).body_size == 96
    with pytest.raises(ProtocolError, match="at most 95 bytes, got 96"):
        parse_header(data[:58], 95)
    with pytest.raises(ProtocolError, match="must have 58 bytes, got 57"):
        parse_header(data[:57])


def extended(start=12, head=None, size=None, entries=(), text=b"", count=None, content=b"x"):
    table = b"".join(struct.pack(">HHI", *e) for e in entries)
    table = struct.pack(">H", len(entries) if count is None else count) + table
    body = struct.pack(
        ">HHII", start, len(table) if head is None else head, len(text) if size is None else size, 7
    )
    body += content + table + text
    return struct.pack(">H12s20sQQQ", 2, b"STRING", b"", 0, len(body), crc64(body)) + body


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (extended(start=11), "size must be at least 12"),
        (extended(start=999), "exceed the body"),
        (extended(head=999), "exceed the body"),
        (extended(size=2**32 - 1), "exceed the body"),
        (extended(count=1), "do not fit"),
        (extended(count=65535), "do not fit"),
        (extended(entries=[(1, 3, 1)], text=b"abc"), "do not add up to 3"),
        (extended(entries=[(1, 3, 2**32 - 1)], text=b"ab"), "do not add up to 2"),
        (extended(entries=[(1, 999, 1)], text=b"ab"), "unknown character set 999"),
        (extended(entries=[(1, 106, 1)], text=b"a\xff"), "utf-8"),
        (extended(entries=[(1, 106, 1)], text=b"\xffa"), "utf-8"),
    ],
)
def test_metadata_fields(data, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode_bytes(data)


def test_metadata_character_sets():
    values = {
        3: b"a",
        4: b"\xe4",
        106: "ä".encode(),
        1013: "ä".encode("utf-16-be"),
        17: b"\x83\x41",
    }
    text = b"".join(bytes([97 + i]) + v for i, v in enumerate(values.values()))
    entries = [(1, code, len(v)) for code, v in values.items()]
    message = decode_bytes(extended(entries=entries, text=text))
    assert message.metadata == {"a": "a", "b": "ä", "c": "ä", "d": "ä", "e": "ア"}
    assert message.message_id == 7
    assert bytes(message.body) == b"x"


def test_a_longer_extended_header_is_skipped():
    """So a later version can add fields."""
    assert bytes(decode_bytes(extended(start=15, content=b"newx")).body) == b"x"


def polydata_bytes(points, cells, attributes=b"", count=0):
    head = [len(points)]
    for flat, n in cells:
        head += [n, 4 * len(flat)]
    body = struct.pack(">10I", *head, count) + np.asarray(points, ">f4").tobytes()
    body += b"".join(np.asarray(flat, ">u4").tobytes() for flat, _ in cells) + attributes
    return struct.pack(">H12s20sQQQ", 1, b"POLYDATA", b"", 0, len(body), crc64(body)) + body


NONE = ([], 0)
THREE = np.zeros((3, 3))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (polydata_bytes(THREE, [([2, 0, 3], 1), NONE, NONE, NONE]), "beyond the 3"),
        (polydata_bytes(THREE, [([1, 0, 2, 0, 3], 2), NONE, NONE, NONE]), "beyond the 3"),
        (polydata_bytes(THREE, [NONE, ([3, 0, 1], 1), NONE, NONE]), "incomplete"),
        (polydata_bytes(THREE, [NONE, ([2**32 - 1, 0], 1), NONE, NONE]), "incomplete"),
        (polydata_bytes(THREE, [NONE, NONE, ([1, 0], 2), NONE]), "stated 2 polygons, got 1"),
        (polydata_bytes(THREE * np.nan, [NONE] * 4), "finite"),
        (polydata_bytes(THREE, [NONE] * 4, b"x"), "1 bytes too many"),
        (polydata_bytes(THREE, [NONE] * 4, b"", 2**32 - 1), "attributes take"),
        (polydata_bytes(THREE, [NONE] * 4, b"\5\1\0\0\0\0a\0", 1), "unknown attribute type 0x5"),
        (polydata_bytes(THREE, [NONE] * 4, b"\1\2\0\0\0\0a\0", 1), "vectors of 2 components"),
        (polydata_bytes(THREE, [NONE] * 4, b"\0\0\0\0\0\0a\0", 1), "scalars of 0 components"),
        (polydata_bytes(THREE, [NONE] * 4, b"\0\1\0\0\0\1a\0", 1), "values take 4 bytes"),
        (polydata_bytes(THREE, [NONE] * 4, b"\0\1\0\0\0\0" + b"a" * 256, 1), "more than 255"),
    ],
)  # fmt: skip
def test_polydata_fields(data, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode_bytes(data)


@pytest.mark.parametrize(("code", "kind", "n"), [(0x04, "rgba", 4), (0x11, "vectors", 3)])
def test_nine_components(code, kind, n):
    """As libopenigtlink 1.11 writes some attributes: the first components count."""
    values = np.arange(18).reshape(2, 9)
    attribute = bytes([code]) + b"\11\0\0\0\2c\0" + values.astype(">f4").tobytes()
    (got,) = decode_bytes(polydata_bytes(THREE, [NONE] * 4, attribute, 1)).attributes
    assert got.kind == kind
    np.testing.assert_array_equal(got.values, values[:, :n])


def test_unequal_cells_are_limited(monkeypatch):
    monkeypatch.setattr(polydata_module, "MAX_UNEQUAL_CELLS", 10)
    data = [polydata_bytes(THREE, [([0] * n, n), *[NONE] * 3]) for n in (10, 11)]
    assert decode_bytes(data[0]).vertices.size == 10
    with pytest.raises(ProtocolError, match="more than 10 unequal vertices"):
        decode_bytes(data[1])
    # Equal ones are not.
    got = decode_bytes(polydata_bytes(THREE, [([2, 0, 1] * 99, 99), *[NONE] * 3]))
    assert len(split_cells(got.vertices)) == 99


def test_cells():
    cells = [[0, 1], [], [2, 1, 0]]
    assert join_cells(cells).tolist() == [2, 0, 1, 0, 3, 2, 1, 0]
    assert [c.tolist() for c in split_cells(join_cells(cells))] == cells
    assert split_cells(join_cells([])) == []


def test_decoded_pixels_are_a_view():
    data = bytearray(wire(Image(np.zeros((1, 2, 3), np.uint16))))
    array = np.frombuffer(data, np.uint8)
    got = decode_bytes(array)
    assert np.shares_memory(got.pixels, array)


def test_encoded_pixels_are_a_view():
    pixels = np.zeros((1, 200, 300), np.uint16)
    parts = encode(Image(pixels, version=2, metadata={"a": "b"}))
    assert any(isinstance(p, np.ndarray) and np.shares_memory(p, pixels) for p in parts)
    assert len(parts) <= 5


@pytest.mark.parametrize("layout", ["fortran", "strided", "reversed", "readonly"])
def test_layouts(rng, layout):
    pixels = rng.integers(0, 999, (4, 5, 6), np.uint16)
    given = {
        "fortran": np.asfortranarray(pixels),
        "strided": np.repeat(pixels, 2, 1)[:, ::2],
        "reversed": pixels[::-1].copy()[::-1],
        "readonly": pixels,
    }[layout]
    given.flags.writeable = layout != "readonly"
    np.testing.assert_array_equal(decode_bytes(wire(Image(given))).pixels, pixels)


def test_bool_travels_as_uint8():
    got = decode_bytes(wire(Image(np.eye(3, dtype=bool)[None]))).pixels
    assert got.dtype == np.uint8
    assert got[0].tolist() == np.eye(3).tolist()


ONE = np.zeros((1, 1, 1), np.uint8)


@pytest.mark.parametrize(
    ("make", "error", "reason"),
    [
        (lambda: Image(np.zeros((2, 2), np.uint8)), ValueError, "planes, rows, columns"),
        (lambda: Image(np.zeros((1, 0, 2), np.uint8)), ValueError, "from 1"),
        (lambda: Image(np.zeros((1, 1, 1, 256), np.uint8)), ValueError, "components"),
        (lambda: Image(np.zeros((1, 1, 1), np.int64)), TypeError, "got int64"),
        (lambda: Image(np.zeros((1, 1, 1), np.float16)), TypeError, "got float16"),
        (lambda: Image(ONE, np.eye(4)), ValueError, "matrix must be"),
        (lambda: Image(ONE, np.full((3, 4), np.nan)), ValueError, "finite"),
        (lambda: Image(ONE, coordinates="lps"), ValueError, "LPS or RAS"),
        (lambda: Image(ONE, offset=(0, 0, 1)), ValueError, "must lie within"),
        (lambda: Image(ONE, size=(1, 1, 70000)), ValueError, "must lie within"),
        (lambda: Transform(np.zeros((4, 4))), ValueError, "0 0 0 1"),
        (lambda: Status(70000), ValueError, "16 bits"),
        (lambda: Status(1, 0, "a" * 21), ValueError, "20 bytes"),
        (lambda: Status(text="a\0b"), ValueError, "null"),
        (lambda: Query("PUT", "IMAGE"), ValueError, "GET, STT"),
        (lambda: PolyData(np.zeros((3, 2))), ValueError, r"\(n, 3\)"),
        (lambda: PolyData(THREE, lines=[[0, 3]]), ValueError, "beyond the 3"),
        (lambda: Attribute("a", [1], "vectors"), ValueError, r"\(n, 3\)"),
        (lambda: Attribute("a", [1], "colours"), ValueError, "scalars, vectors"),
        (lambda: Attribute("a" * 256, [1]), ValueError, "255 bytes"),
        (lambda: encode(Status(version=4)), ValueError, "version must be"),
        (lambda: encode(Status(device="x" * 21)), ValueError, "20 printable bytes"),
        (lambda: encode(Status(metadata={"a": "b"})), ValueError, "need version 2"),
        (lambda: encode(Status(message_id=1)), ValueError, "need version 2"),
        (lambda: encode(Status(version=2, message_id=2**32)), ValueError, "too large"),
        (lambda: encode(Status(version=2, metadata={"a" * 70000: ""})), ValueError, "too large"),
        (lambda: encode(Status(timestamp_ns=-1)), ValueError, "1970 to 2106"),
        (lambda: encode(Raw("THIRTEEN_CHAR", np.zeros(0, np.uint8))), ValueError, "12 ASCII"),
    ],
)
def test_arguments(make, error, reason):
    with pytest.raises(error, match=reason):
        make()
