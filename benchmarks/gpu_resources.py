"""What each GPU kernel takes of a chip, found without one.

    python benchmarks/gpu_resources.py    rewrites benchmarks/gpu_resources.md

Needs NVRTC (``pip install nvidia-cuda-nvrtc``) and Triton, no GPU and no driver.
Occupancy is the share of a multiprocessor's warps that registers and shared memory leave room for;
a kernel that spills registers to memory fails the tests.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import NamedTuple

from medseg_fast.kernels import nvrtc, triton_ahead
from medseg_fast.kernels.source import SOURCES

from medseg_fast import _gpu


class Chip(NamedTuple):
    """Limits of one multiprocessor, from the CUDA programming guide's table of capabilities."""

    name: str
    warps: int = 64
    blocks: int = 32
    registers: int = 65536
    shared: int = 228 << 10


CHIPS = {80: Chip("A100", shared=164 << 10), 90: Chip("H100"), 100: Chip("B200")}
RESERVED = 1024  # bytes of shared memory that the system takes of each block

# Bytes that a kernel moves per pixel, beside the least that its task needs: what is read once and
# what is written once. `p` stands for the pixel's size, `i` for 4, the label's (8 from 2**31 on).
TRAFFIC: dict[str, tuple[int, str, str]] = {}


def note(kernel: str, threads: int, moved: str, least: str) -> None:
    """Threads per block, and bytes per pixel of one launch."""
    TRAFFIC[kernel] = threads, moved, least


note("in_range", 256, "p + 1", "p + 1")
note("merge_lines", 256, "p + i", "p + i")
note("merge_borders", 256, "p + i and its merges", "0: part of the labels' p + i")
note("settle_roots", 256, "i", "0: part of the labels' p + i")
note("number_roots", 256, "i", "0: part of the labels' p + i")
note("write_labels", 256, "2 i and its paths", "0: part of the labels' p + i")
note("mark_at", 256, "none: per seed", "none")
note("mark_chosen", 256, "i + 1", "1")
note("mark_no_minima", 256, "p + i", "p + 1")
note("begin_flood", 256, "5 + 8 + i", "0: part of the labels' p + i")
note("spread_keys", 256, "5 + 16 each time a tile is awake", "p + i for all labels")
note("spread_labels", 256, "16 + 2 i each time a tile is awake", "0: part of the labels' p + i")
note("decide_lines", 256, "17 + 2 i each time a tile is awake", "0: part of the labels' p + i")
note(
    "spread_heights", 256, "f + 8 + a capacity a direction each time a tile is awake", "one search"
)
note("find_active", 256, "f + 4", "0: part of the next pulse")
note("push", 256, "4 f + 12 + 2 f a direction where a tile is active", "the active pixels'")
note("receive", 256, "4 + 3 f a direction that was sent", "the active pixels'")
note("gradient", 256, "p + f", "p + f")
note("laplace", 256, "p + f", "p + f")
note("cross_difference", 256, "p + f", "p + f")
note("cross_zero", 256, "p + 1", "p + 1")
note("canny_maxima", 256, "2 f + 2", "f + 1")
note("canny_opencv_maxima", 256, "3", "2")
note("rank_scores", 256, "a score, n from caches", "a score")
note(
    "find_overlaps",
    64,
    "n / 512 a box, and 8 a group that it overlaps",
    "n / 16 a box: a bit a pair",
)
note("keep_best", 1024, "n / 512 a box, 8 a group a kept one overlaps", "the same")
note("soften", 512, "a box and score for each picked one", "a box and score")
note("paste", 256, "f (1 with a threshold)", "f (1 with a threshold)")
note("roi_align", 256, "f and the samples' pixels", "f and the boxes' pixels")
note("roi_align_backward", 256, "f and the bins around each square of 8", "f and all bins once")
note("resample", 256, "l and the logits around", "l and all logits once")
note("convolve", 256, "the input once for 8 outputs and its tiles' rims", "l and the input once")
note("double_by_taps", 256, "the input once for 4 outputs, and l", "l and the input once")
note("pool_windows", 256, "l and its window", "0: part of the convolution's l")
note("cell_means", 128, "l for each grid", "l")
note("mix_cells", 256, "none: per cell", "none")
note("stretch_cells", 256, "l", "l")
note("claim", 256, "an index and 4 per value", "an index per value")
note("take_claimed", 256, "4 + p, and the values", "p and the values")
note("count_few", 256, "p", "p")
note("count_many", 256, "p and an addition of 8 far from the first pixels", "p")
note("count_bins", 256, "p", "p")
note("sum_above", 256, "f an iteration", "f an iteration")
note("nearest_in_rows", 256, "1 + 2 (8 with a sampling)", "1 + f for all axes")
note("nearest_in_columns", 256, "2 + 4 (16 with a sampling)", "0: part of the distances' 1 + f")
note(
    "distances_in_columns", 256, "2 + f (8 + f with a sampling)", "0: part of the distances' 1 + f"
)
note("smooth_axis", 256, "p + f, then 2 f an axis", "p + f for all axes")
note("differ_axis", 256, "2 f", "p + f for all axes")
note("keep_marked", 256, "i + 1 and its paths", "1")


def occupancy(chip: Chip, threads: int, usage: nvrtc.Usage) -> float:
    """Share of the multiprocessor's warps that can be there at once."""
    warps = -(-threads // 32)
    per_warp = -(-usage.registers * 32 // 256) * 256  # registers go to warps by 256
    fits = [chip.warps // warps, chip.blocks, chip.registers // per_warp // 4 * 4 // warps]
    if usage.shared:
        fits.append(chip.shared // (-(-(usage.shared + RESERVED) // 128) * 128))
    return min(fits) * warps / chip.warps


def rows() -> list[str]:
    """One row for each kernel; its instantiations are shown by their smallest and largest use."""
    lines = []
    for file, source in sorted(SOURCES.items()):
        used = {a: nvrtc.compile_for(source, a) for a in CHIPS}
        for kernel in source.kernels:
            threads, moved, least = TRAFFIC[kernel]
            names = [n for n in source.expressions() if n.partition("<")[0] == kernel]
            cells = [f"`{kernel}`", f"`{file}`", str(len(names)), str(threads)]
            for architecture, chip in CHIPS.items():
                usages = [used[architecture][name] for name in names]
                low, high = (pick(u.registers for u in usages) for pick in (min, max))
                worst = min(occupancy(chip, threads, u) for u in usages)
                cells.append(f"{low}" if low == high else f"{low} to {high}")
                cells.append(f"{worst:.0%}")
            every = [u for by_name in used.values() for u in map(by_name.get, names) if u]
            cells += [str(max(u.shared for u in every)), str(max(u.spilled for u in every))]
            lines.append("| " + " | ".join([*cells, moved, least]) + " |")
    return lines


def triton_rows() -> list[str]:
    """One row for each kernel of Triton, as it is launched for the given type."""
    lines = []
    for wanted in triton_ahead.specialisations():
        threads = 32 * wanted.options["num_warps"]
        cells = [f"`{wanted.name}`", str(threads)]
        usages = [triton_ahead.compile_for(wanted, architecture) for architecture in CHIPS]
        for chip, usage in zip(CHIPS.values(), usages, strict=True):
            cells += [str(usage.registers), f"{occupancy(chip, threads, usage):.0%}"]
        cells += [str(max(u.shared for u in usages)), str(max(u.stack for u in usages))]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def report() -> str:
    """The whole file."""
    for module in iter_modules(_gpu.__path__):
        import_module(f"medseg_fast._gpu.{module.name}")
    head = ["kernel", "source", "instantiations", "threads"]
    for architecture, chip in CHIPS.items():
        head += [f"registers sm_{architecture}", f"occupancy {chip.name}"]
    head += ["shared bytes", "spilled bytes", "bytes moved per pixel", "least"]
    text = (
        "# What each GPU kernel takes\n\n"
        "Made by `python benchmarks/gpu_resources.py` with NVRTC and no GPU: nothing here is a\n"
        "time. Registers are per thread (the smallest and the largest of a kernel's\n"
        "instantiations), occupancy is the lowest. In bytes per pixel p is the size of a pixel,\n"
        "i that of a label (4, or 8 from 2^31 pixels on), f that of a float result; caches are\n"
        "taken to serve neighbours; l is the size of a label of logits, or of a feature.\n\n"
    )
    table = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *rows()]
    text += "\n".join(table) + "\n\n"
    head = ["kernel of Triton", "threads"]
    for architecture, chip in CHIPS.items():
        head += [f"registers sm_{architecture}", f"occupancy {chip.name}"]
    head += ["shared bytes", "bytes of stack"]
    table = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head), *triton_rows()]
    return text + "\n".join(table) + "\n"


if __name__ == "__main__":
    target = Path(__file__).with_suffix(".md")
    target.write_text(report())
    print(f"wrote {target}")
