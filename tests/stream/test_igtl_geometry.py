"""Where an image of OpenIGTLink lies, against the protocol's words and Volume's."""

import numpy as np
import pytest
from _igtl import wire

from medseg_fast.io import Volume
from medseg_fast.stream.igtl import (
    Image,
    decode_bytes,
    image_from_volume,
    polydata_from_contours,
    split_cells,
    volume_from_image,
)


def oblique(rng):
    return np.linalg.qr(rng.normal(size=(3, 3)))[0]


@pytest.mark.parametrize("coordinates", ["LPS", "RAS"])
@pytest.mark.parametrize(
    ("shape", "axes"),
    [((4, 5, 6), "zyx"), ((5, 6), "yx"), ((4, 5, 6, 3), "zyxc"), ((5, 6, 3), "yxc")],
)
def test_round_trip(rng, shape, axes, coordinates):
    n = len(axes.strip("c"))
    volume = Volume(
        rng.integers(0, 9, shape, np.uint8),
        (2.5, 0.75, 0.5)[3 - n :],
        (-10.0, 20.0, 5.0),
        oblique(rng)[:, :n],
        axes=axes,
    )
    message = decode_bytes(wire(image_from_volume(volume, coordinates, device="A")))
    assert message.device == "A"
    got = volume_from_image(message)
    assert got.axes == axes
    np.testing.assert_array_equal(got.array, volume.array)
    # float32 on the wire
    np.testing.assert_allclose(got.affine_lps, volume.affine_lps, atol=1e-4)


def test_the_centre_is_that_of_the_pixels():
    """The protocol's position is the centre: of 3 pixels, that of the second."""
    volume = Volume(np.zeros((1, 3, 5), np.uint8), (4.0, 2.0, 1.0), (10.0, 20.0, 30.0))
    image = image_from_volume(volume)
    assert image.matrix.tolist() == [[1, 0, 0, 12], [0, 2, 0, 22], [0, 0, 4, 30]]
    assert image_from_volume(volume, "RAS").matrix.tolist() == [
        [-1, 0, 0, -12],
        [0, -2, 0, -22],
        [0, 0, 4, 30],
    ]


def test_a_part_lies_where_it_does_in_the_whole(rng):
    whole = Volume(
        rng.integers(0, 9, (4, 5, 6), np.uint8), (2.0, 1.5, 0.5), (1, 2, 3), oblique(rng)
    )
    message = image_from_volume(whole)
    part = Image(
        message.pixels[1:3, 2:5, 3:5], message.matrix, message.coordinates, (4, 5, 6), (1, 2, 3)
    )
    got = volume_from_image(decode_bytes(wire(part)))
    wanted = whole.affine_lps @ [1, 2, 3, 1]
    np.testing.assert_allclose(got.affine_lps @ [0, 0, 0, 1], wanted, atol=1e-4)
    # One plane of a volume stays one of a volume.
    part.pixels = part.pixels[:1]
    assert volume_from_image(decode_bytes(wire(part))).axes == "zyx"


def test_no_direction():
    image = Image(np.zeros((2, 2, 2), np.uint8), np.zeros((3, 4)))
    with pytest.raises(ValueError, match="no step of 0"):
        volume_from_image(image)


def test_no_time():
    with pytest.raises(ValueError, match="no time axis"):
        image_from_volume(Volume(np.zeros((2, 3, 4, 5)), axes="tzyx"))


@pytest.mark.parametrize("closed", [False, True])
def test_contours(closed):
    volume = Volume(np.zeros((5, 6)), (2.0, 0.5), (10.0, 20.0, 30.0))
    contours = [np.array([[0, 0], [1, 2], [2.5, 4]]), np.array([[3, 3]])]
    message = decode_bytes(wire(polydata_from_contours(contours, volume, "LPS", closed=closed)))
    assert message.points.tolist() == [[10, 20, 30], [11, 22, 30], [12, 25, 30], [11.5, 26, 30]]
    cells = split_cells(message.polygons if closed else message.lines)
    assert [c.tolist() for c in cells] == [[0, 1, 2], [3]]
    ras = polydata_from_contours(contours, volume).points
    np.testing.assert_array_equal(ras, message.points * np.float32([-1, -1, 1]))
    assert polydata_from_contours([], volume).points.shape == (0, 3)
    with pytest.raises(ValueError, match=r"\(n, 2\)"):
        polydata_from_contours([np.zeros((4, 3))], volume)
