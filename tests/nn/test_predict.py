"""Sliding windows: against the network on the whole, and against a plain loop."""

from __future__ import annotations

import itertools
import threading
from functools import reduce

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="networks need the extra nn")

from _networks import small  # noqa: E402

from medseg_fast import nn  # noqa: E402
from medseg_fast.io import Volume  # noqa: E402


class Edges(torch.nn.Module):
    """A network without weights whose logits depend on a pixel's neighbours."""

    def __init__(self, ndim, channels=1, classes=3):
        super().__init__()
        torch.manual_seed(4)
        conv = {2: torch.nn.Conv2d, 3: torch.nn.Conv3d}[ndim]
        self.conv = conv(channels, classes, 3, padding=1).double()

    def sizes(self, size):
        return size, size  # takes any, as networks of ours do

    def forward(self, x):
        return self.conv(x)


def plain(model, image, window, overlap, blend, mirror):
    """Logits by full-size sums: (channels, ...) -> (classes, ...)."""
    size = image.shape[1:]
    rank = len(size)
    inside = [min(w, n) for w, n in zip(window, size, strict=True)]
    starts, weights = [], []
    for w, n in zip(inside, size, strict=True):
        count = 1 if w == n else -(-(n - w) // max(1, int(w * (1 - overlap)))) + 1
        starts.append([round(i * (n - w) / max(1, count - 1)) for i in range(count)])
        i = np.arange(w) - (w - 1) / 2
        flat = blend == "constant" or count == 1
        weights.append(np.ones(w) if flat else np.exp(-0.5 * (i / (w / 8)) ** 2))
    weight = torch.from_numpy(np.asarray(reduce(np.multiply.outer, weights)))
    total, norm = 0.0, torch.zeros(size, dtype=torch.float64)
    for corner in itertools.product(*starts):
        place = tuple(slice(s, s + w) for s, w in zip(corner, inside, strict=True))
        x = torch.from_numpy(image[(slice(None), *place)].copy())[None]
        flips = [c for k in range(len(mirror) + 1) for c in itertools.combinations(mirror, k)]
        logits = 0
        for flip in flips:
            dims = [2 + axis for axis in flip]
            logits = logits + (model(x.flip(dims)).flip(dims) if dims else model(x))
        if isinstance(total, float):
            total = torch.zeros((logits.shape[1], *size), dtype=torch.float64)
        total[(slice(None), *place)] += logits[0] / len(flips) * weight
        norm[place] += weight
    assert rank == norm.ndim
    return (total / norm).numpy()


@pytest.mark.parametrize("shape", [(23, 9), (8, 31), (7, 7), (5, 12, 9), (13, 4, 6), (6, 6, 17)])
@pytest.mark.parametrize(
    ("window", "overlap", "blend", "mirror"),
    [(6, 0.5, "gaussian", ()), (5, 0.0, "constant", ()), (7, 0.7, "gaussian", (0, 1))],
)
@torch.no_grad()
def test_equals_a_plain_loop(shape, window, overlap, blend, mirror, rng):
    """The longest axis is at every place: slabs are turned back."""
    rank = len(shape)
    # A network of ours clips its windows to the image, as the plain loop does.
    model = Edges(rank).eval()
    image = rng.normal(size=shape)
    options = {"window": window, "overlap": overlap, "blend": blend, "mirror": mirror}
    expected = plain(model, image[None], (window,) * rank, overlap, blend, mirror)
    labels = nn.predict(model, image, batch=3, **options)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, expected.argmax(0))
    found = nn.predict(model, image, output="probabilities", **options)
    assert found.shape == (*shape, 3)
    softmax = torch.from_numpy(expected).softmax(0).numpy()
    np.testing.assert_allclose(np.moveaxis(found, -1, 0), softmax, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["unet", "unet bilinear", "unet 3D", "segnet", "pspnet", "fcn8s"])
@torch.no_grad()
def test_one_window_is_the_network(name, rng):
    model, x = small(name)
    image = rng.normal(size=x.shape[2:]).astype(np.float32)
    expected = model.eval()(torch.from_numpy(image)[None, None])[0].argmax(0)
    model.train()
    labels = nn.predict(model, image, window=64)
    assert model.training  # as before
    np.testing.assert_array_equal(labels, expected)


@torch.no_grad()
def test_overlap_tile_equals_the_mirrored_whole(rng):
    """A U-Net without padding: tiles give what it gives for the whole image and a mirrored margin.

    Exactly that only where tiles begin at multiples of 4, because pooling has a raster.
    """
    model, _ = small("unet valid")
    model = model.double().eval()
    margin = model.margin
    image = rng.normal(size=(36, 28))
    whole = np.pad(image, margin, mode="reflect")
    expected = model(torch.from_numpy(whole)[None, None])[0]
    size = 12 + 2 * margin
    assert model.sizes(size) == (size, 12)
    labels = nn.predict(model, image, window=size, overlap=0, blend="constant")
    starts = [round(i * (28 - 12) / 2) for i in range(3)]
    assert starts == [0, 8, 16]
    np.testing.assert_array_equal(labels, expected.argmax(0))


@torch.no_grad()
def test_lenet_labels_every_pixel(rng):
    classifier = nn.lenet5(classes=4).double().eval()
    image = rng.normal(size=(40, 37))
    labels = nn.predict(nn.to_fully_convolutional(classifier), image, window=48, overlap=0)
    padded = np.pad(image, ((15, 16), (15, 16)), mode="reflect")
    patches = np.lib.stride_tricks.sliding_window_view(padded, (32, 32)).reshape(-1, 1, 32, 32)
    expected = classifier(torch.from_numpy(patches.copy())).argmax(1).reshape(40, 37)
    np.testing.assert_array_equal(labels, expected)


@torch.no_grad()
def test_2d_network_labels_a_volume_plane_by_plane(rng):
    model = Edges(2)
    volume = rng.normal(size=(3, 12, 17))
    labels = nn.predict(model, volume, window=8)
    for plane, expected in zip(volume, labels, strict=True):
        np.testing.assert_array_equal(nn.predict(model, plane, window=8), expected)
    several = nn.predict(model, volume, window=8, output="probabilities")
    np.testing.assert_array_equal(several.argmax(-1), labels)


@torch.no_grad()
def test_channels_come_last(rng):
    model = Edges(2, channels=3)
    image = rng.normal(size=(12, 9, 3))
    expected = model(torch.from_numpy(np.moveaxis(image, -1, 0).copy())[None])[0].argmax(0)
    np.testing.assert_array_equal(nn.predict(model, image, window=64), expected)
    colour = Volume(image, (2.0, 1.0), axes="yxc")
    found = nn.predict(model, colour)
    assert isinstance(found, Volume)
    assert (found.axes, found.spacing) == ("yx", (2.0, 1.0))
    np.testing.assert_array_equal(found.array, expected)
    assert nn.predict(model, colour, output="probabilities").axes == "yxc"


@torch.no_grad()
def test_volume_keeps_its_geometry(rng):
    direction = np.eye(3)[:, [1, 0, 2]]
    scan = Volume(rng.normal(size=(6, 7, 9)), (3.0, 1.0, 1.5), (1.0, 2.0, 3.0), direction)
    found = nn.predict(Edges(3), scan)
    assert (found.spacing, found.origin) == (scan.spacing, scan.origin)
    np.testing.assert_array_equal(found.direction, direction)
    assert found.array.dtype == np.uint8


@pytest.mark.parametrize("shape", [(9, 20, 12), (20, 8, 9), (6, 9, 19)])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (4.0, 2.0, 1.5), (2.0, 1.0, 1.0)])
@torch.no_grad()
def test_spacing(shape, spacing, rng):
    """Resampled to the model's grid, and its logits back: as in one piece."""
    own = (2.0, 1.0, 1.0)
    model = Edges(3).float()
    image = rng.normal(size=shape).astype(np.float32)
    size = [round(n * a / b) for n, a, b in zip(shape, own, spacing, strict=True)]
    x = torch.nn.functional.interpolate(torch.from_numpy(image)[None, None], size, mode="trilinear")
    expected = plain(model, x[0].numpy(), (6, 6, 6), 0.5, "gaussian", ())
    back = torch.nn.functional.interpolate(
        torch.from_numpy(expected)[None], shape, mode="trilinear"
    )[0]
    scan = Volume(image, own)
    options = {"spacing": spacing, "window": 6}
    found = nn.predict(model, scan, output="probabilities", **options)
    np.testing.assert_allclose(
        np.moveaxis(found.array, -1, 0), back.softmax(0), rtol=1e-4, atol=1e-5
    )
    labels = nn.predict(model, scan, **options)
    top = back.topk(2, 0).values
    clear = (top[0] - top[1] > 1e-4).numpy()  # beyond the rounding of float32
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(labels.array[clear], back.argmax(0).numpy()[clear])


@torch.no_grad()
def test_spacing_in_2d_and_one_class(rng):
    model = Edges(2, classes=1).float()
    image = rng.normal(size=(10, 21)).astype(np.float32)
    x = torch.nn.functional.interpolate(
        torch.from_numpy(image)[None, None], (20, 14), mode="bilinear"
    )
    logits = torch.nn.functional.interpolate(model.double()(x.double()), (10, 21), mode="bilinear")
    model.float()
    found = nn.predict(model, Volume(image, (1.0, 1.0)), spacing=(0.5, 1.5))
    clear = (logits[0, 0].abs() > 1e-4).numpy()
    np.testing.assert_array_equal(found.array[clear], (logits[0, 0] > 0).numpy()[clear])
    assert set(np.unique(found.array)) == {0, 1}


def test_mask_of_one_class(rng):
    one = nn.unet(1, 1, widths=(3, 4), padding="same").eval()
    image = rng.normal(size=(16, 20)).astype(np.float32)
    with torch.no_grad():
        logits = one(torch.from_numpy(image)[None, None])[0, 0]
    np.testing.assert_array_equal(nn.predict(one, image), logits > 0)
    found = nn.predict(one, image, output="probabilities")[..., 0]
    np.testing.assert_allclose(found, logits.sigmoid(), rtol=1e-6)


@torch.no_grad()
def test_normalise(rng):
    model = Edges(2)
    image = rng.integers(0, 4000, (12, 14)).astype(np.int16)
    real = image.astype(np.float64)
    trimmed = real.clip(*np.percentile(real, (0.5, 99.5)))
    for how, prepared in (
        ("none", real),
        ("zscore", (real - real.mean()) / real.std()),
        ("robust", (trimmed - trimmed.mean()) / trimmed.std()),
        ((100, 900), (real.clip(100, 900) - 100) / 800),
    ):
        expected = model(torch.from_numpy(prepared)[None, None])[0].argmax(0)
        np.testing.assert_array_equal(nn.predict(model, image, normalise=how), expected)
    model.metadata = {"normalise": [100, 900], "window": 64}  # as load_model leaves it
    np.testing.assert_array_equal(nn.predict(model, image), expected)
    flat = nn.predict(model, np.full((4, 5), 7), normalise="zscore")
    assert flat.shape == (4, 5)


def test_other_modules(rng):
    """Tuples and dicts of results; windows beyond the image are mirrored for modules not ours."""

    class Strict(Edges):
        sizes = None

        def forward(self, x):
            assert x.shape[2:] == (32, 48)
            return {"out": self.conv(x), "aux": 0}

    image = rng.normal(size=(9, 60))
    assert nn.predict(Strict(2), image, window=(64, 48)).shape == (9, 60)
    assert nn.predict(lambda x: [x, None], image, window=8).shape == (9, 60)


@pytest.mark.parametrize("training", [True, False])
def test_each_module_keeps_its_mode(training):
    """All are evaluated, however a frozen norm or a single one in training mode stands out."""
    norm = torch.nn.BatchNorm2d(1)
    model = torch.nn.Sequential(norm, torch.nn.Conv2d(1, 2, 3, padding=1))
    model.train(training)
    norm.train(not training)
    nn.predict(model, np.ones((32, 32), np.float32))
    assert [module.training for module in model.modules()] == [training, not training, training]
    assert norm.running_mean == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_tensors(dtype, rng):
    """Those that are trained and of types that NumPy lacks, too."""
    x = torch.from_numpy(rng.normal(size=(9, 12))).to(dtype).requires_grad_()
    expected = nn.predict(Edges(2), x.detach().double().numpy(), mirror=(1,))
    np.testing.assert_array_equal(nn.predict(Edges(2), x, mirror=1), expected)


def test_progress_and_cancel(rng):
    model = Edges(2)
    image = rng.normal(size=(16, 16))
    seen = []
    nn.predict(model, image, window=8, batch=2, progress=lambda *args: seen.append(args))
    assert seen[-1] == (9, 9)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    stop = threading.Event()
    stop.set()
    with pytest.raises(nn.Cancelled, match="predict: cancelled after 0 of 9 windows"):
        nn.predict(model, image, window=8, cancel=stop)
    calls = iter([False, False, True])
    with pytest.raises(nn.Cancelled, match="after 2 of 9"):
        nn.predict(model, image, window=8, cancel=lambda: next(calls))
    assert model.training


def test_memory_is_one_slab(rng, monkeypatch):
    """Sixty classes on a long volume: no allocation of classes x volume."""
    from medseg_fast.nn import _windows

    held = []
    take = _windows.Output.take

    def watched(self, start, logits):
        held.append(logits.nbytes)
        take(self, start, logits)

    monkeypatch.setattr(_windows.Output, "take", watched)
    volume = rng.normal(size=(8, 8, 200)).astype(np.float32)
    nn.predict(Edges(3, classes=60).float(), volume, window=8)
    assert max(held) <= 60 * 8 * 8 * 8 * 4
    assert len(held) > 40


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"overlap": 1}, ValueError, r"predict: overlap must be in \[0, 1\), got 1"),
        ({"blend": "max"}, ValueError, "predict: blend must be one of 'gaussian', 'constant'"),
        ({"output": "x"}, ValueError, "predict: output must be one of 'labels', 'probabilities'"),
        ({"window": (1, 2, 3)}, ValueError, "predict: window must be one number or 2"),
        ({"window": 0}, ValueError, "predict: window must be"),
        ({"overlap": "a"}, TypeError, "predict: overlap must be a number, got 'a'"),
        ({"mirror": (2,)}, ValueError, "predict: mirror must be"),
        ({"mirror": None}, TypeError, "predict: mirror must be an integer, got None"),
        ({"batch": 0}, ValueError, "predict: batch must be at least 1"),
        (
            {"normalise": "minmax"},
            ValueError,
            "predict: normalise must be .zscore., .robust., ",
        ),
        ({"normalise": (3, 3)}, ValueError, r"predict: normalise must be \(low, high\)"),
        ({"spacing": (1.0, 1.0)}, ValueError, "predict: volume must have a spacing"),
        ({"spacing": (1.0,)}, ValueError, "predict: spacing must be 2 positive numbers"),
        ({"cancel": 3}, TypeError, "predict: cancel must be an Event or callable, got int"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        nn.predict(Edges(2), np.zeros((6, 7)), **arguments)


@pytest.mark.parametrize(
    ("image", "error", "message"),
    [
        (np.zeros(4), ValueError, r"predict: volume must have shape \(\[D,\] H, W\)"),
        (np.zeros((0, 4)), ValueError, "predict: volume must have shape"),
        (np.full((4, 4), np.nan), ValueError, "predict: volume must be finite"),
        (np.zeros((4, 4), complex), TypeError, "predict: volume must be bool, integer or float"),
        (Volume(np.zeros((2, 4, 4)), axes="tyx"), ValueError, "must have no time axis"),
    ],
)
def test_wrong_volumes(image, error, message):
    with pytest.raises(error, match=message):
        nn.predict(Edges(2), image)


def test_wrong_models():
    with pytest.raises(TypeError, match="model must be callable, got int"):
        nn.predict(3, np.zeros((4, 4)))
    with pytest.raises(ValueError, match=r"model must return logits of shape \(N, classes, 32, 32"):
        nn.predict(torch.nn.Conv2d(1, 2, 3, stride=2), np.zeros((32, 32), np.float32))
