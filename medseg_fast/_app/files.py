"""Result files: beside each other, never half-written, never over another file unasked."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Endings of two parts, which Path.stem would cut in half.
_DOUBLE = (".nii.gz", ".tar.gz", ".ome.tif", ".ome.tiff")


def beside(output: Path, ending: str) -> Path:
    """``mask.nii.gz`` and ``.json`` give ``mask.json`` in the same folder."""
    name = output.name
    if not name:  # of "", "." and "/"
        raise IsADirectoryError(f"{output}: is a folder")
    for double in _DOUBLE:
        if name.lower().endswith(double):
            return output.with_name(name[: -len(double)] + ending)
    return output.with_name(output.stem + ending)


def check_writable(paths: list[Path], *, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Raise before any work what would otherwise fail after it.

    Raises
    ------
    FileExistsError
        If one of the files exists and `force` is False.
    ValueError
        If one of them is an input.
    OSError
        If a folder does not exist or takes no files.
    """
    for path in paths:
        folder = path.parent
        if not folder.is_dir():
            raise NotADirectoryError(f"{folder}: no such folder")
        if path.is_dir():
            raise IsADirectoryError(f"{path}: is a folder")
        if not os.access(folder, os.W_OK):
            raise PermissionError(f"{folder}: not writable")
        if path.exists() and any(path.samefile(other) for other in inputs if other.exists()):
            raise ValueError(f"{path}: is the input")
        if os.path.lexists(path) and not force:  # also a link to nothing
            raise FileExistsError(f"{path}: exists (--force replaces it)")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it takes the place of `path` when the block ends without an error."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's files are their owner's alone
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_report(path: Path | None, *, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Raise before any work what would keep a table from its file, .json or .csv."""
    if path is None:
        return
    if path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"{path}: must end in .json or .csv")
    check_writable([path], force=force, inputs=inputs)


def write_report(path: Path | None, as_json: str, as_csv: str) -> None:
    """Write a table to its file, where there is one."""
    if path is not None:
        with replacing(path) as temporary:
            temporary.write_text(as_json if path.suffix.lower() == ".json" else as_csv)
