"""PNG, JPEG and BMP through Pillow: one plane, no geometry. Only PNG is written: it is lossless.

Palette images give the palette's indices, which are the labels in segmentation; the colours are in
``metadata["palette"]``. PNG colours of 16 bits, which Pillow would cut to 8, are refused.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medseg_fast.io import _common
from medseg_fast.io._common import ImageFileError
from medseg_fast.io.volume import Volume

_FORMATS = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".bmp": "BMP"}
_ITEMSIZE = {"1": 1, "L": 1, "P": 1, "LA": 2, "RGB": 3, "RGBA": 4, "I;16": 2, "I;16B": 2, "I": 4}


def read(path: Path, max_bytes: int) -> Volume:
    pillow = _common.need("PIL.Image")
    kind = _FORMATS[path.suffix.lower()]
    with open(path, "rb") as file:
        head = file.read(26)
        if head[12:16] == b"IHDR" and head[24] == 16 and head[25] != 0:
            raise ImageFileError("PNG colours of 16 bits are not read")
        file.seek(0)
        try:
            with pillow.open(file, formats=(kind,)) as image:
                if image.mode not in _ITEMSIZE:
                    raise ImageFileError(f"{kind} images of mode {image.mode} are not read")
                width, height = image.size
                _common.check_size((height, width), _ITEMSIZE[image.mode], max_bytes)
                if getattr(image, "n_frames", 1) != 1:
                    raise ImageFileError(f"animated {kind} images are not read")
                array = np.array(image)
                metadata: dict[str, Any] = {"format": kind}
                if image.mode == "P":
                    palette = image.getpalette("RGB") or []
                    metadata["palette"] = np.array(palette, np.uint8).reshape(-1, 3)
        except pillow.UnidentifiedImageError:
            raise ImageFileError(f"not a {kind} file") from None
        except OSError as error:  # what Pillow raises for damage has no errno
            if error.errno is not None:
                raise
            raise ImageFileError(str(error)) from None
    axes = "yx" if array.ndim == 2 else "yxc"
    return Volume(_common.native(array), metadata=metadata, axes=axes)


def write(path: Path, volume: Volume, overwrite: bool) -> None:
    pillow = _common.need("PIL.Image")
    array = volume.array
    if volume.axes not in ("yx", "yxc") or (array.ndim == 3 and array.shape[2] not in (2, 3, 4)):
        raise ValueError(
            "write: PNG holds one plane, grey or of 2 to 4 channels, "
            f"got {volume.axes} {array.shape}"
        )
    allowed = (np.bool_, np.uint8, np.uint16) if array.ndim == 2 else (np.uint8,)
    if array.dtype not in allowed:
        raise TypeError(
            f"write: PNG holds bool, uint8 and uint16, colours in uint8, got {array.dtype}"
        )
    _common.warn_geometry(path, volume)
    image = pillow.fromarray(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))
    with _common.replacing(path, overwrite) as file:
        image.save(file, "PNG")
