"""Augmentation beside MONAI and TorchIO: the same chain of changes, every one drawn every time.

Chain: rotation up to 15 degrees, scale 0.8 to 1.25, elastic deformation, blur, bias field, gamma,
noise, of an image and its label. All draw their own random numbers, so results are compared by what
they must have in common: shape, labels of the same classes, about the same volume inside.
"""

from __future__ import annotations

import numpy as np
import pytest
from _cases import Case
from _data import mni152

from medseg_fast import augment


def _volume():
    head = mni152(np.float32)
    cut = tuple(slice((n - 128) // 2, (n + 128) // 2) for n in head.shape)
    image = np.ascontiguousarray(head[cut])
    return (image - image.mean()) / image.std()


def _slice():
    """512 x 512: a slice of the head, doubled."""
    plane = _volume()[64]
    return np.kron(plane, np.ones((4, 4), np.float32))


def _monai(image, label, bend):
    import torch
    from monai import transforms

    keys, modes = ["image", "label"], ["bilinear", "nearest"]
    turn = {"rotate_range": 0.26, "scale_range": 0.2, "mode": modes, "padding_mode": "zeros"}
    if not bend:
        place = transforms.RandAffined(keys, prob=1, **turn)
    elif image.ndim == 3:
        place = transforms.Rand3DElasticd(
            keys, sigma_range=(8, 9), magnitude_range=(100, 200), prob=1, **turn
        )
    else:
        place = transforms.Rand2DElasticd(
            keys, spacing=(73, 73), magnitude_range=(3, 6), prob=1, **turn
        )
    only, widths = ["image"], [(0.5, 1)] * 3
    chain = transforms.Compose(
        [
            place,
            transforms.RandGaussianSmoothd(only, *widths, prob=1),
            transforms.RandBiasFieldd(only, degree=3, coeff_range=(0, 0.3), prob=1),
            transforms.RandAdjustContrastd(only, prob=1, gamma=(0.7, 1.5)),
            transforms.RandGaussianNoised(only, prob=1, std=0.1, sample_std=False),
        ]
    )
    pair = {"image": torch.from_numpy(image[None]), "label": torch.from_numpy(label[None])}

    def call():
        result = chain(pair)
        return np.asarray(result["image"]), np.asarray(result["label"])[0]

    return call


def _torchio(image, label, bend):
    import torch
    import torchio

    chain = [torchio.RandomAffine(scales=(0.8, 1.25), degrees=15)]
    if bend:
        chain.append(torchio.RandomElasticDeformation(num_control_points=7, max_displacement=6))
    chain += [
        torchio.RandomBlur((0.5, 1)),
        torchio.RandomBiasField(0.3),
        torchio.RandomGamma((np.log(0.7), np.log(1.5))),
        torchio.RandomNoise(std=(0.1, 0.1)),
    ]
    compose = torchio.Compose(chain)
    subject = torchio.Subject(
        image=torchio.ScalarImage(tensor=torch.from_numpy(image[None])),
        label=torchio.LabelMap(tensor=torch.from_numpy(label[None])),
    )

    def call():
        result = compose(subject)
        return result["image"].numpy(), result["label"].numpy()[0]

    return call


def _chain(make, bend):
    def build():
        image = make()
        label = (image > 1).astype(np.uint8)
        settings = {"elastic": 6} if bend else {}
        augmenter = augment.Augmenter(
            rotation=15,
            scale=(0.8, 1.25),
            gamma=(0.7, 1.5),
            noise=(0.1, 0.1),
            bias=0.3,
            blur=(0.5, 1),
            probability=1,
            **settings,
        )
        seeds = iter(range(1 << 30))
        calls = {"medseg_fast": lambda: augmenter(image[None], label, seed=next(seeds))}
        for name, rival in (("MONAI", _monai), ("TorchIO", _torchio)):
            if name == "TorchIO" and image.ndim == 2:
                continue  # for volumes
            try:
                calls[name] = rival(image, label, bend)
            except ImportError:  # neither is in the extra `bench`
                continue
        return image, calls

    return build


def _alike(ours, theirs):
    for (image, label), (other, other_label) in ((ours, theirs), (theirs, ours)):
        assert image.shape == other.shape
        assert set(np.unique(label)) == {0, 1}
        assert 0.4 < (label > 0).sum() / (other_label > 0).sum() < 2.5
        assert np.isfinite(image).all()


CASES = [
    Case("augment", "MNI152, 128^3", _chain(_volume, True), _alike, target=5),
    Case("augment, no elastic", "MNI152, 128^3", _chain(_volume, False), _alike, target=5),
    Case("augment", "slice, 512 x 512", _chain(_slice, True), _alike, target=5),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_augment(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
