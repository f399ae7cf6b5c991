"""The images the benchmarks run on; all come with a package, none from the network."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


@functools.cache
def mni152(dtype: Any = np.float32) -> NDArray[Any]:
    """MNI152 T1 head, 1 mm, 189x233x197 (z, y, x), scaled to 0..255 (0..4095 for 16 bit)."""
    import nibabel
    import nilearn.datasets

    folder = Path(nilearn.datasets.__file__).parent / "data"
    file = next(folder.glob("mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"))
    volume = np.asarray(nibabel.load(file).dataobj, np.float32).T
    volume = (volume - volume.min()) / (volume.max() - volume.min())
    scale = {"uint8": 255, "uint16": 4095, "int16": 4095}.get(np.dtype(dtype).name, 255)
    return np.ascontiguousarray((volume * scale).astype(dtype))


@functools.cache
def mni152_halved(dtype: Any = np.uint8) -> NDArray[Any]:
    """The same head with voxels of 2 mm, means of 8: 1.1 million voxels."""
    volume = mni152(np.float32)
    planes, rows, columns = (n // 2 for n in volume.shape)
    blocks = volume[: 2 * planes, : 2 * rows, : 2 * columns]
    blocks = blocks.reshape(planes, 2, rows, 2, columns, 2)
    return np.ascontiguousarray(blocks.mean((1, 3, 5)).astype(dtype))


@functools.cache
def mni152_doubled(dtype: Any = np.uint8) -> NDArray[Any]:
    """The same head with every voxel doubled along each axis: 69 million voxels."""
    volume = mni152(dtype)
    for axis in range(3):
        volume = np.repeat(volume, 2, axis)
    return volume


@functools.cache
def photograph(size: str = "4096x4096", dtype: Any = np.uint8) -> NDArray[Any]:
    """The camera man of scikit-image's wheel, mirrored up to "1080x1920" or "4096x4096"."""
    from skimage import data

    rows, columns = map(int, size.split("x"))
    small = data.camera()
    pad = [(0, rows - small.shape[0]), (0, columns - small.shape[1])]
    image = np.pad(small, [(0, max(0, p[1])) for p in pad], mode="symmetric")[:rows, :columns]
    return np.ascontiguousarray(image.astype(dtype))
