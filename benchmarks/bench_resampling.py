"""Labels of resampled logits beside PyTorch, nnU-Net's way, OpenVINO and ONNX Runtime."""

from __future__ import annotations

import functools

import numpy as np
import pytest
from _cases import Case
from _runtimes import runtimes

from medseg_fast.nn.functional import resample_argmax, upsample_argmax


@functools.cache
def smooth(classes, *shape):
    """Logits as a network's: blobs of a fifth of the image, edges a few voxels wide, some noise."""
    from scipy import ndimage

    rng = np.random.default_rng(0)
    logits = np.empty((1, classes, *shape), np.float32)
    for k in range(classes):
        blobs = ndimage.gaussian_filter(rng.standard_normal(shape, np.float32), shape[-1] / 20)
        logits[0, k] = blobs * (4 / blobs.std()) + 0.3 * rng.standard_normal(shape, np.float32)
    return logits


@functools.cache
def noise(classes, *shape):
    """The worst case: hardly a cell has a sure class."""
    return np.random.default_rng(0).standard_normal((1, classes, *shape), np.float32)


def same_but_ties(ours, theirs):
    """Two classes may tie within the rounding of float32."""
    assert np.mean(np.asarray(ours) != np.asarray(theirs)) < 1e-5


def _volume(make, classes, shape, size, with_nnunet=True):
    def build():
        import torch

        logits = make(classes, *shape)
        tensor = torch.from_numpy(logits)

        def by_torch():
            resampled = torch.nn.functional.interpolate(tensor, size, mode="trilinear")
            return resampled.argmax(1)

        calls = {
            "medseg_fast": lambda: resample_argmax(logits, size),
            "PyTorch": by_torch,
        }
        if with_nnunet:
            calls["nnU-Net's way"] = lambda: _class_by_class(logits[0], size)[None]
        return logits, calls

    return build


def _class_by_class(logits, size):
    """nnU-Net's export: skimage's resize of every class in float64, then the largest."""
    from skimage.transform import resize

    resized = [resize(c.astype(float), size, 1, mode="edge", anti_aliasing=False) for c in logits]
    return np.stack(resized).astype(np.float32).argmax(0)


def _upsampled(make, classes, shape, factor):
    def build():
        import torch

        logits = make(classes, *shape)

        def resized(x):
            up = torch.nn.functional.interpolate(x, scale_factor=float(factor), mode="bilinear")
            return up.argmax(1)

        return logits, {
            "medseg_fast": lambda: upsample_argmax(logits, factor),
            **runtimes(resized, logits),
        }

    return build


LARGE, SMALL = ((128, 128, 128), (256, 512, 512)), ((64, 64, 64), (96, 160, 160))
CASES = [
    Case(
        "resample_argmax",
        "15 classes 128^3 to 256x512x512",
        _volume(smooth, 15, *LARGE, False),
        same=same_but_ties,
        target=10,
    ),
    Case(
        "resample_argmax",
        "15 classes 128^3 to 256x512x512, noise",
        _volume(noise, 15, *LARGE, False),
        same=same_but_ties,
        target=10,
    ),
    Case(
        "resample_argmax",
        "15 classes 64^3 to 96x160x160",
        _volume(smooth, 15, *SMALL),
        same=same_but_ties,
        target=10,
    ),
    *(
        Case(
            "upsample_argmax",
            f"{classes} classes 64^2 x8{', noise' * (make is noise)}",
            _upsampled(make, classes, (64, 64), 8),
            same=same_but_ties,
            target=2.5,
        )
        for classes in (21, 2)
        for make in (smooth, noise)
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_resampling(benchmark, case):
    _, calls = case.build()
    case.check(calls)
    benchmark(calls["medseg_fast"])
