"""Damage real image files of every format and read them: a volume or a clear error, nothing else.

    python tests/fuzz_io.py --cases 5000 --seed 1

Each file is read in a child process. Findings are: a crash, an exception other than ImageFileError,
OSError or ImportError, more memory than the limit, more time than the limit. Damaged files that did
so are kept in --keep. The same seed gives the same files.
"""

from __future__ import annotations

import argparse
import bz2
import contextlib
import gzip
import json
import random
import re
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAX_BYTES = 32 << 20  # given to io.read
MEMORY = 160 << 20  # peak above the resting worker: the array, its stored form, the file, decoders
ADDRESS_SPACE = 1 << 30  # what the worker may map beyond what it has at rest
SECONDS = 20.0  # one read, on a busy machine
CLEAR = ("volume", "ImageFileError", "OSError", "ImportError")


# The worker


def work() -> None:
    """Read the files named on standard input; one line of JSON for each on standard output."""
    import faulthandler
    import logging
    import resource

    import numpy as np

    from medseg_fast import io

    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for name in ("ct_lung_tumour", "mr_head_t1"):
        io.read(io.example(name).truth)
    for module in ("pydicom.pixels", "nrrd", "tifffile", "PIL.Image", "openjpeg"):
        with contextlib.suppress(ImportError):
            __import__(module)
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + ADDRESS_SPACE, -1))
    print("ready", flush=True)
    for line in sys.stdin:
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak
        resting, start = _status("VmRSS"), time.perf_counter()
        note = ""
        try:
            volume = io.read(line.rstrip("\n"), max_bytes=MAX_BYTES)
            outcome = "volume"
            if volume.array.nbytes > MAX_BYTES or not np.isfinite(volume.affine_lps).all():
                outcome = "bad volume"
            del volume
        except Exception as error:
            known = (io.ImageFileError, OSError, ImportError)
            outcome = next(
                (k.__name__ for k in known if isinstance(error, k)), type(error).__name__
            )
            note = str(error)[:300]
        seconds = time.perf_counter() - start
        memory = _status("VmHWM") - resting
        answer = {"outcome": outcome, "seconds": seconds, "memory": memory, "note": note}
        print(json.dumps(answer), flush=True)


def _status(field: str) -> int:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s*(\d+) kB", text)
    assert found
    return int(found[1]) << 10


class Worker:
    """A child process that reads files, started again after it has died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def read(self, path: Path) -> dict[str, Any]:
        if self._process is None:
            command = [sys.executable, __file__, "--worker"]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                bufsize=1,
            )
            assert self._answer(120.0) == "ready"
        assert self._process.stdin
        self._process.stdin.write(f"{path}\n")
        answer = self._answer(SECONDS)
        if answer:
            return json.loads(answer)  # type: ignore[no-any-return]
        code = self._process.poll()
        self.close()
        return {"outcome": "hang" if code is None else f"died with {code}", "note": ""}

    def _answer(self, seconds: float) -> str:
        assert self._process
        assert self._process.stdout
        ready, _, _ = select.select([self._process.stdout], [], [], seconds)
        if not ready:
            return ""
        line = self._process.stdout.readline().strip()
        if not line:
            self._process.wait(10)
        return line

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()
            self._process = None


# Sound files


def sound_files(folder: Path) -> list[Path]:
    """One small file of every format and encoding, cut from a real scan; DICOM from pydicom."""
    import nrrd
    import numpy as np
    import tifffile
    from PIL import Image
    from pydicom.data import get_testdata_file

    from medseg_fast import io

    scan = io.read(io.example("mr_head_t1").image)
    small = io.Volume(scan.array[20:24, 40:60, 30:53], scan.spacing, scan.origin, scan.direction)
    plane = (small.array[1] // 4).astype(np.uint8)
    for suffix in ".nii .nii.gz .nrrd .mha .npy .npz .tif".split():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", io.GeometryWarning)
            io.write(folder / f"scan{suffix}", small)
    for suffix in (".png", ".jpg", ".bmp"):
        Image.fromarray(plane).save(folder / f"grey{suffix}")
        Image.fromarray(np.dstack([plane] * 3)).save(folder / f"colour{suffix}")
    columns = small.array.T
    for encoding in ("raw", "gzip", "bzip2", "ascii"):
        header = {"encoding": encoding, "space": "RAS", "space directions": np.diag([1.0, 2, 3])}
        nrrd.write(str(folder / f"{encoding}.nrrd"), columns, header)
    nrrd.write(str(folder / "beside.nhdr"), columns, {"encoding": "raw"}, detached_header=True)
    head = "ObjectType = Image\nNDims = 3\nDimSize = 23 20 4\nElementType = MET_SHORT\n"
    (folder / "beside.mhd").write_text(f"{head}ElementDataFile = beside.raw\n")
    (folder / "raw.mha").write_bytes(
        f"{head}ElementDataFile = LOCAL\n".encode() + small.array.tobytes()
    )
    pages = small.array.astype(np.uint16)
    tifffile.imwrite(folder / "imagej.tif", pages, imagej=True, metadata={"unit": "mm"})
    grey: dict[str, Any] = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(folder / "deflate.tif", pages, predictor=True, **grey)
    tifffile.imwrite(folder / "tiles.tif", pages, tile=(16, 16), **grey)
    for name in (
        "CT_small MR_small_RLE MR_small_jp2klossless MR_small_bigendian MR_small_implicit "
        "SC_rgb_jpeg_dcmtk SC_rgb_small_odd rtdose examples_jpeg2k"
    ).split():
        shutil.copy(get_testdata_file(f"{name}.dcm"), folder / f"{name}.dcm")
    return sorted(p for p in folder.iterdir() if p.suffix != ".raw")


# Damage


def damaged(path: Path, rng: random.Random) -> tuple[bytes, str]:
    """Another version of a file, and what was done to it."""
    data = path.read_bytes()
    packed = data[:2] == b"\x1f\x8b"
    if packed and rng.random() < 0.7:  # reach what lies under the compression
        content, what = _damage(gzip.decompress(data), rng)
        return gzip.compress(content, 1), f"inside gzip: {what}"
    blank = data.find(b"\n\n")
    if data[:4] == b"NRRD" and blank > 0 and rng.random() < 0.6:
        head, what = _damage(data[:blank], rng)
        return head + data[blank:], f"header: {what}"
    return _damage(data, rng)


def _damage(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    content = bytearray(data)
    reach = len(content) if rng.random() < 0.4 else min(len(content), 600)
    reach = max(reach, 1)
    place = rng.randrange(reach)
    kind = rng.choice("flip flip flip cut fill number number extreme extreme delete repeat".split())
    if kind == "flip":
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            if content:
                content[rng.randrange(min(reach, len(content)))] ^= 1 << rng.randrange(8)
    elif kind == "cut":
        del content[place:]
    elif kind == "fill":
        size = rng.randrange(1, 40)
        content[place : place + size] = bytes([rng.choice([0, 255, 32, 48])]) * size
    elif kind == "number":
        numbers = list(re.finditer(rb"\d+", bytes(content[:reach])))
        if numbers:
            chosen = rng.choice(numbers)
            content[chosen.start() : chosen.end()] = rng.choice(NUMBERS)
    elif kind == "extreme":
        value = rng.choice(EXTREMES)
        content[place : place + len(value)] = value
    elif kind == "delete":
        del content[place : place + rng.randrange(1, 40)]
    else:
        content[place:place] = content[place : place + rng.randrange(1, 200)]
    return bytes(content), f"{kind} at {place}"


NUMBERS = [b"0", b"-1", b"99999", b"2147483648", b"9" * 20, b"1e30", b"nan", b"0.0000001", b""]
EXTREMES = [
    value.to_bytes(width, order, signed=True)
    for width in (2, 4, 8)
    for value in (-1, 0, 1, (1 << (8 * width - 1)) - 1, -(1 << (8 * width - 1)), 30000)
    for order in ("little", "big")
]


def bombs(folder: Path) -> Iterator[Path]:
    """Small files that unpack to far more than MAX_BYTES."""
    import numpy as np

    zeros = bytes(2 * MAX_BYTES)
    packed = {"gzip": gzip.compress(zeros, 6), "bzip2": bz2.compress(zeros)}
    head = "type: uchar\ndimension: 3\nsizes: {}\nencoding: {}\n\n"
    for size in ("3 4 5", "1024 1024 30", "1024 1024 64"):
        for encoding, data in packed.items():
            path = folder / f"bomb-{size.replace(' ', '-')}-{encoding}.nrrd"
            path.write_bytes(("NRRD0004\n" + head.format(size, encoding)).encode() + data)
            yield path
    path = folder / "bomb.mha"
    path.write_bytes(
        b"NDims = 3\nDimSize = 1024 1024 64\nElementType = MET_UCHAR\nCompressedData = True\n"
        b"ElementDataFile = LOCAL\n" + zlib.compress(zeros)
    )
    yield path
    path = folder / "bomb.npz"
    np.savez_compressed(path, np.frombuffer(zeros, np.uint8).reshape(64, 1024, 1024))
    yield path
    path = folder / "bomb.nii.gz"
    path.write_bytes(packed["gzip"])
    yield path


# The run


def run(cases: int, seed: int, keep: Path | None = None) -> tuple[Counter[str], list[str]]:
    """(how often each outcome came, findings) for the sound files, bombs and damaged files."""
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    findings: list[str] = []
    worker = Worker()

    def check(path: Path, what: str, wanted: tuple[str, ...] = CLEAR) -> None:
        answer = worker.read(path)
        outcomes[f"{path.suffix} {answer['outcome']}"] += 1
        wrong = [] if answer["outcome"] in wanted else [answer["outcome"]]
        if answer.get("memory", 0) > MEMORY:
            wrong.append(f"{answer['memory'] >> 20} MiB of memory")
        if answer.get("seconds", 0) > SECONDS:
            wrong.append(f"{answer['seconds']:.1f} s")
        if wrong:
            findings.append(f"{path.name}: {what}: {', '.join(wrong)} {answer['note']}")
            if keep is not None:
                keep.mkdir(exist_ok=True)
                shutil.copy(path, keep / f"{len(findings):04}-{path.name}")

    with tempfile.TemporaryDirectory() as name, contextlib.closing(worker):
        folder = Path(name)
        sound = sound_files(folder)
        for path in sound:
            check(path, "sound", ("volume",))
        for path in bombs(folder):
            check(path, "bomb")
        for _ in range(cases):
            source = rng.choice(sound)
            content, what = damaged(source, rng)
            victim = folder / f"damaged-{source.name}"
            victim.write_bytes(content)
            check(victim, what)
    return outcomes, findings


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz_io_findings"))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return 0
    outcomes, findings = run(options.cases, options.seed, options.keep)
    for outcome, count in sorted(outcomes.items()):
        print(f"{count:6}  {outcome}")
    print(f"{len(findings)} findings", *findings, sep="\n")
    return bool(findings)


if __name__ == "__main__":
    sys.exit(main())
