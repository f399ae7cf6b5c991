"""Labelled images: found, read, normalised, resampled, kept, cut into patches."""

from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from conftest import DTYPES, LAYOUTS
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage

import medseg_fast as ms
from medseg_fast import augment, data, io
from medseg_fast.data import Case, Cases, PatchSampler, normalise, read_pairs, resample

# ---- pairs ----


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def test_finds_pairs(tmp_path):
    touch(tmp_path / "images", "b.png", "a.PNG", ".hidden.png", "notes.txt")
    touch(tmp_path / "masks", "a.tif", "b.png")
    pairs = read_pairs(tmp_path)
    assert [p.name for p in pairs] == ["a", "b"]
    assert pairs[0].images == (tmp_path / "images" / "a.PNG",)
    assert pairs[0].mask == tmp_path / "masks" / "a.tif"
    assert read_pairs(tmp_path / "images", tmp_path / "masks") == pairs


def test_names_may_have_more_words(tmp_path):
    touch(tmp_path / "images", "x_image.nii.gz", "x_2_image.nii.gz", "y.nrrd")
    touch(tmp_path / "labels", "x_mask.nii.gz", "x_2_seg.nii.gz", "y_1stHO.png")
    pairs = read_pairs(tmp_path)
    assert [(p.name, p.mask.name) for p in pairs] == [
        ("x", "x_mask.nii.gz"),
        ("x_2", "x_2_seg.nii.gz"),
        ("y", "y_1stHO.png"),
    ]


def test_channels_in_files(tmp_path):
    touch(tmp_path / "imagesTr", *(f"c{k}_000{c}.nii.gz" for k in (1, 2) for c in (0, 1)))
    touch(tmp_path / "labelsTr", "c1.nii.gz", "c2.nii.gz")
    pairs = read_pairs(tmp_path)
    assert [p.name for p in pairs] == ["c1", "c2"]
    assert [f.name for f in pairs[1].images] == ["c2_0000.nii.gz", "c2_0001.nii.gz"]
    (tmp_path / "imagesTr" / "c2_0001.nii.gz").unlink()
    with pytest.raises(ValueError, match="channels"):
        read_pairs(tmp_path)


def test_numbers_of_frames_are_no_channels(tmp_path):
    touch(tmp_path / "images", "seq1_0001.jpg", "seq1_0002.jpg", "seq2_0001.jpg")
    touch(tmp_path / "labels", "seq1_0001.png", "seq1_0002.png", "seq2_0001.png")
    assert [p.name for p in read_pairs(tmp_path)] == ["seq1_0001", "seq1_0002", "seq2_0001"]


def test_pairs_errors(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder images"):
        read_pairs(tmp_path)
    touch(tmp_path / "images", "a.png", "b.png")
    with pytest.raises(FileNotFoundError, match="masks or labels"):
        read_pairs(tmp_path)
    (tmp_path / "masks").mkdir()
    with pytest.raises(ValueError, match="masks: no image file"):
        read_pairs(tmp_path)
    touch(tmp_path / "masks", "a.png")
    with pytest.raises(ValueError, match="images without a mask: b"):
        read_pairs(tmp_path)
    touch(tmp_path / "masks", "b.png", "c.png")
    with pytest.raises(ValueError, match=r"masks without an image: c.png"):
        read_pairs(tmp_path)
    touch(tmp_path / "images", "c.png")
    touch(tmp_path / "masks", "c_mask.png")
    with pytest.raises(ValueError, match="images with several masks: c"):
        read_pairs(tmp_path)
    touch(tmp_path / "images", "c.jpg")
    with pytest.raises(ValueError, match="several are called c"):
        read_pairs(tmp_path)
    with pytest.raises(ValueError, match="masks must be given"):
        read_pairs([tmp_path / "images" / "a.png"])
    with pytest.raises(FileNotFoundError, match="no file"):
        read_pairs([tmp_path / "none.png"], [tmp_path / "masks" / "a.png"])
    with pytest.raises(FileNotFoundError, match="no folder"):
        read_pairs(tmp_path / "none", tmp_path / "masks")


@pytest.mark.parametrize(
    ("folder", "masks", "count"),
    [
        ("mr_hippocampus", "labels", 30),
        ("nuclei_dsb2018", "labels", 45),
        ("retina_chase_db1", "vessels_1stHO", 20),
        ("us_breast_busi", "masks", 33),
        ("dermoscopy_isic2017", "masks", 40),
        ("endoscopy_larynx", "labels", 66),
    ],
)
def test_real_folders(data, folder, masks, count):
    pairs = read_pairs(data / folder / "images", data / folder / masks)
    assert len(pairs) == count
    case = Cases(pairs)[0]
    assert case.image.dtype == np.float32
    assert case.label.shape == case.image.shape[1:]
    assert 0 < case.label.max() < 300


# ---- normalise ----


def test_ct_window():
    image = np.array([[-2000, -150, 50, 250, 3000]], np.int16)
    assert_allclose(normalise(image, "ct"), [[-1, -1, 0, 1, 1]])
    assert_allclose(normalise(image, "ct", window=(-150, 50)), [[-1, -1, 1, 1, 1]])


def test_pet_suv():
    image = np.array([[0.0, 5000, 20000, 1e9]])
    got = normalise(image, "pet", weight_kg=70, dose_bq=350e6, window=(0, 4))
    assert_allclose(got, [[0, 0.25, 1, 1]])  # 5000 Bq/ml * 70000 g / 350 MBq = SUV 1
    assert_allclose(normalise([[0.0, 10, 30]], "pet"), [[0, 0.5, 1]])


@pytest.mark.parametrize("modality", ["mr", "us", "zscore"])
def test_standardised_within_the_body(rng, modality):
    image = np.zeros((2, 20, 30))
    image[:, 5:15, 5:25] = rng.normal(100, 10, (2, 10, 20))
    if modality == "mr":
        image += rng.normal(0, 1, image.shape)
    got = normalise(image, modality)
    assert got.dtype == np.float32
    inside = got[:, 5:15, 5:25] if modality != "zscore" else got
    assert_allclose(inside.mean(axis=(1, 2)), 0, atol=1e-5)
    assert_allclose(inside.std(axis=(1, 2)), 1, atol=1e-5)


def test_rgb_and_none():
    assert_allclose(normalise(np.array([[0, 255]], np.uint8), "rgb"), [[-2, 2]])
    assert_allclose(normalise(np.array([[0, 0.5]]), "rgb"), [[-2, 0]])
    assert_allclose(normalise(np.array([[0, 7]], np.uint8), "none"), [[0, 7]])


@pytest.mark.parametrize("modality", ["ct", "mr", "pet", "us", "rgb", "zscore", "none"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_normalise_every_dtype(rng, modality, dtype):
    image = rng.integers(0, 2 if dtype.kind == "b" else 90, (2, 6, 7)).astype(dtype)
    got = normalise(image, modality)
    assert got.dtype == np.float32
    assert got.shape == image.shape
    assert np.isfinite(got).all()
    for make in LAYOUTS.values():
        assert_allclose(normalise(make(image), modality), got, rtol=1e-6, atol=1e-6)
    flat = normalise(np.full((1, 4, 4), 3).astype(dtype), modality)
    assert len(np.unique(flat)) == 1
    assert normalise(image[:, :0], modality).shape == (2, 0, 7)


def test_normalise_keeps_nan():
    image = np.array([[1.0, 2, 3, np.nan, np.inf]])
    for modality in ("mr", "zscore", "ct", "us"):
        got = normalise(image, modality)
        assert np.isnan(got[0, 3])
        assert np.isfinite(got[0, :3]).all()
    assert_allclose(normalise(image, "zscore")[0, :3].mean(), 0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modality": "xray"}, "modality must be one of"),
        ({"modality": "mr", "window": (0, 1)}, "window is for ct and pet"),
        ({"modality": "ct", "window": (1, 0)}, "window must be two ascending"),
        ({"modality": "pet", "weight_kg": 70}, "both for pet"),
        ({"modality": "ct", "weight_kg": 70, "dose_bq": 1}, "both for pet"),
        ({"modality": "pet", "weight_kg": 70, "dose_bq": 0}, "must be positive"),
        ({"image": np.zeros(3)}, r"image must be \(C, \*spatial\)"),
    ],
)
def test_normalise_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        normalise(**{"image": np.zeros((1, 3)), **arguments})


# ---- resample ----


def test_resample_keeps_places_in_mm():
    z, y, x = np.meshgrid(np.arange(20.0), np.arange(24.0), np.arange(30.0), indexing="ij")
    image = np.stack([z, y + 2 * x]).astype(np.float32)
    label = (z > 9.4).astype(np.uint16)
    new, labels = resample(image, label, (3, 1, 1), (1, 2, 1.5))
    assert new.shape == (2, 60, 12, 20)
    assert labels.dtype == np.uint16
    assert labels.shape == (60, 12, 20)
    # The centre of voxel i lies at (i + 1/2) spacing.
    zz = (np.arange(60) + 0.5) / 3 - 0.5
    assert_allclose(new[0, 2:-2, 0, 0], zz[2:-2], atol=1e-4)
    yy, xx = (np.arange(12) + 0.5) * 2 - 0.5, (np.arange(20) + 0.5) * 1.5 - 0.5
    inner = new[1, 5, 2:-2, 3:-3]
    assert_allclose(inner, yy[2:-2, None] + 2 * xx[None, 3:-3], atol=1e-3)
    assert_array_equal(labels[:, 0, 0], np.rint(zz) > 9.4)


def test_resample_does_not_alias(rng):
    noise = rng.normal(size=(1, 128, 128)).astype(np.float32)
    coarse, _ = resample(noise, None, (1, 1), (4, 4))
    assert coarse.shape == (1, 32, 32)
    assert coarse.std() < 0.35
    same, _ = resample(noise, None, (1, 1), (1, 1))
    assert_array_equal(same, noise)
    assert not np.shares_memory(same, noise)


def test_resample_equals_scipy_zoom(rng):
    image = ndimage.gaussian_filter(rng.normal(size=(20, 31)), 1).astype(np.float32)
    got, _ = resample(image[None], None, (1, 1), (0.5, 0.5))
    expected = ndimage.zoom(image, 2, order=1, mode="nearest", grid_mode=True)
    assert_allclose(got[0], expected, atol=1e-5)


def test_resample_odd_input():
    new, labels = resample(np.zeros((1, 0, 4)), np.zeros((0, 4), int), (1, 1), (2, 1))
    assert new.shape == (1, 0, 4)
    assert labels.shape == (0, 4)
    assert resample(np.ones((1, 1, 1)), None, (1, 1), (9, 9))[0].tolist() == [[[1]]]
    with pytest.raises(ValueError, match="label must have"):
        resample(np.zeros((1, 3, 4)), np.zeros((3, 3)), (1, 1), (2, 1))
    with pytest.raises(ValueError, match="order must be"):
        resample(np.zeros((1, 3, 4)), None, (1, 1), (2, 1), order=2)
    with pytest.raises(ValueError, match="spacing"):
        resample(np.zeros((1, 3, 4)), None, (1, 1), (0, 1))


# ---- cases ----


@pytest.fixture
def folder(tmp_path, rng):
    for name in ("p", "q"):
        for kind in ("images", "labels"):
            (tmp_path / kind).mkdir(exist_ok=True)
        image = rng.integers(0, 200, (6, 8, 10)).astype(np.int16)
        io.write(tmp_path / "images" / f"{name}.nii.gz", image, spacing=(2.0, 1.0, 1.0))
        label = (image > 100).astype(np.uint8)
        io.write(tmp_path / "labels" / f"{name}.nii.gz", label, spacing=(2.0, 1.0, 1.0))
    return tmp_path


def test_cases(folder):
    cases = Cases(read_pairs(folder), modality="zscore")
    assert len(cases) == 2
    case = cases[-1]
    assert case.name == "q"
    assert case.spacing == (2, 1, 1)
    raw = io.read(folder / "images" / "q.nii.gz").array
    assert_array_equal(case.image, normalise(raw[None], "zscore"))
    assert_array_equal(case.label, raw > 100)
    assert cases[1] is case  # kept
    assert [c.name for c in cases[:]] == ["p", "q"]
    assert [c.name for c in cases] == ["p", "q"]
    fresh = Cases(read_pairs(folder), memory=False)
    assert fresh[0] is not fresh[0]
    finer = Cases(read_pairs(folder), spacing=(1, 1, 1))[0]
    assert finer.image.shape == (1, 12, 8, 10)
    assert finer.label.shape == (12, 8, 10)
    assert finer.spacing == (1, 1, 1)
    with pytest.raises(IndexError):
        cases[2]


def test_cache_on_disk(folder, tmp_path):
    pairs, kept = read_pairs(folder), tmp_path / "cache"
    plain = Cases(pairs, modality="mr")[0]
    first = Cases(pairs, modality="mr", cache=kept)[0]
    assert_array_equal(first.image, plain.image)
    assert_array_equal(first.label, plain.label)
    assert first.spacing == plain.spacing
    files = {f.name: f.stat().st_mtime_ns for f in kept.iterdir()}
    assert len(files) == 3
    assert not any(name.startswith(".") for name in files)
    again = Cases(pairs, modality="mr", cache=kept)[0]
    assert isinstance(again.image, np.memmap)
    assert_array_equal(again.image, plain.image)
    assert {f.name: f.stat().st_mtime_ns for f in kept.iterdir()} == files
    Cases(pairs, modality="zscore", cache=kept)[0]
    assert len(list(kept.iterdir())) == 6
    os.utime(pairs[0].mask, (1, 1))  # another file
    Cases(pairs, modality="mr", cache=kept)[0]
    assert len(list(kept.iterdir())) == 9


def test_an_interrupted_write_leaves_nothing(folder, tmp_path, monkeypatch):
    pairs, kept = read_pairs(folder), tmp_path / "cache"

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        Cases(pairs, cache=kept)[0]
    assert list(kept.iterdir()) == []


def test_masks_of_pictures(tmp_path):
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    label = np.array([[0, 255, 0, 0, 255]] * 4, np.uint8)
    for kind, array in (("images", image), ("masks", label)):
        (tmp_path / kind).mkdir()
        io.write(tmp_path / kind / "a.png", io.Volume(array, axes="yxc"[: array.ndim]))
    case = Cases(read_pairs(tmp_path), modality="rgb")[0]
    assert case.image.shape == (3, 4, 5)
    assert case.spacing is None
    assert_array_equal(case.label, label > 0)
    assert case.label.dtype == np.uint8
    with pytest.raises(ValueError, match="says no spacing"):
        Cases(read_pairs(tmp_path), spacing=(1, 1))[0]
    with pytest.raises(ValueError, match="3 channels, for 2 modalities"):
        Cases(read_pairs(tmp_path), modality=("mr", "ct"))[0]
    with pytest.raises(ValueError, match="modality must be of"):
        Cases([], modality="x")
    io.write(tmp_path / "masks" / "a.png", io.Volume(image, axes="yxc"), overwrite=True)
    with pytest.raises(ValueError, match="is in colour"):
        Cases(read_pairs(tmp_path))[0]
    io.write(tmp_path / "masks" / "a.png", label[:2], overwrite=True)
    with pytest.raises(ValueError, match=r"has shape \(2, 5\)"):
        Cases(read_pairs(tmp_path))[0]


def test_spacings_must_agree(folder):
    label = io.read(folder / "labels" / "p.nii.gz").array
    io.write(folder / "labels" / "p.nii.gz", label, spacing=(3.0, 1.0, 1.0), overwrite=True)
    with pytest.raises(ValueError, match="its image of"):
        Cases(read_pairs(folder))[0]


# ---- patches ----


def scattered(seed=0, shape=(40, 50, 30)):
    """An image that says where each voxel lies, and a label with rare and common classes."""
    label = np.zeros(shape, np.uint8)
    label[10:30, 10:30] = 1
    label[5, 5, 5] = 2
    image = np.arange(label.size, dtype=np.float32).reshape(1, *shape)
    return Case(f"c{seed}", image, label, None)


@pytest.mark.parametrize("patch", [8, (6, 11, 1), (16, 16, 64), (100, 3, 3)], ids=str)
def test_patches_come_from_the_image(patch):
    case = scattered()
    sampler = PatchSampler([case], patch, 3)
    for step in range(6):
        images, labels = sampler(step)
        assert images.shape == (3, 1, *sampler.patch)
        assert labels.shape == (3, *sampler.patch)
        assert images.dtype == np.float32
        assert labels.dtype == np.int64
        for image, label in zip(images[:, 0], labels, strict=True):
            inside = image > 0
            assert inside.any()
            where = image[inside].astype(int)
            assert_array_equal(label[inside], case.label.reshape(-1)[where])
            assert len(np.unique(where)) == where.size
            full = [min(p, n) for p, n in zip(sampler.patch, case.label.shape, strict=True)]
            assert where.size >= np.prod(full) - 1  # voxel 0 looks like padding


def test_classes_are_balanced():
    other = scattered(1)
    other.label[...] = 0
    sampler = PatchSampler([scattered(), other, other], 4, 10, foreground=1)
    assert sampler.classes == [1, 2]
    holds = np.zeros(3)
    for step in range(30):
        for label in sampler(step)[1]:
            assert label.max() > 0
            holds[np.unique(label)] += 1
    assert 100 < holds[2] < 200  # of 300: one voxel against 12000


def test_the_share_of_foreground():
    sampler = PatchSampler([scattered()], 2, 5, foreground=0.3)
    empty = PatchSampler([scattered()], 2, 5, foreground=0)
    sure, base = (
        np.mean([(s(k)[1] > 0).any((1, 2, 3)).mean() for k in range(80)]) for s in (sampler, empty)
    )
    assert_allclose(sure, 0.3 + 0.7 * base, atol=0.06)
    none = scattered()
    none.label[...] = 0
    images, labels = PatchSampler([none], 4, foreground=1)(0)
    assert labels.max() == 0
    assert images.max() > 0


def test_steps_are_a_function_of_the_seed(threads):
    settings = {"patch": 16, "batch": 3, "augmenter": augment.standard(probability=0.8)}
    one, two = (PatchSampler([scattered(), scattered(1)], **settings, seed=4) for _ in range(2))
    for step in (5, 0):
        for a, b in zip(one(step), two(step), strict=True):
            assert_array_equal(a, b)
    first = list(itertools.islice(one, 2))
    assert_array_equal(first[1][0], one(1)[0])
    assert (first[0][0] != first[1][0]).any()
    assert (PatchSampler([scattered()], **settings, seed=5)(0)[0] != one(0)[0]).any()


def test_pairs_of_arrays_and_partial_labels():
    image, label = np.ones((2, 9, 9)), np.full((9, 9), -100)
    label[4, 4] = 3
    sampler = PatchSampler([(image, label)], 3, 4, foreground=1)
    assert sampler.classes == [3]
    _, labels = sampler(0)
    assert ((labels == 3).sum((1, 2)) == 1).all()
    assert (labels[labels != 3] == -100).all()


def test_sampler_of_cases(folder):
    cases = Cases(read_pairs(folder), cache=folder / "cache")
    images, labels = PatchSampler(cases, 4, 2)(0)
    assert images.shape == (2, 1, 4, 4, 4)
    assert labels.shape == (2, 4, 4, 4)


@pytest.mark.parametrize(
    ("cases", "settings", "error", "message"),
    [
        ([], {}, ValueError, "cases must not be empty"),
        (None, {"batch": 0}, ValueError, "batch must be"),
        (None, {"foreground": 2}, ValueError, "foreground must lie"),
        (None, {"patch": (2, 2)}, ValueError, "patch must be one number or 3"),
        (None, {"patch": 0}, ValueError, "patch must be at least"),
        ([(np.zeros((1, 3, 4)), np.zeros((3, 3), int))], {}, ValueError, "case 0 must have"),
        ([(np.zeros((1, 3, 4)), np.zeros((3, 4)))], {}, TypeError, "labels must be integers"),
        (
            [(np.zeros((c, 3, 4)), np.zeros((3, 4), int)) for c in (1, 2)],
            {},
            ValueError,
            "same axes and channels",
        ),
    ],
)
def test_sampler_errors(cases, settings, error, message):
    with pytest.raises(error, match=f"PatchSampler: .*{message}"):
        PatchSampler([scattered()] if cases is None else cases, **{"patch": 2, **settings})


def test_public_names():
    assert ms.data is data
    assert set(data.__all__) <= set(dir(data))
