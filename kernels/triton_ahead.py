"""Triton without a GPU or a driver: machine code and its use of resources for any architecture.

Needs Triton alone (its wheel brings ptxas and cuobjdump), in a process without TRITON_INTERPRET.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from medseg_fast.kernels.nvrtc import Usage

POINTERS = {"float32": "*fp32", "float16": "*fp16", "bfloat16": "*bf16"}


class Specialisation(NamedTuple):
    """One of the kernels that launches ask for."""

    name: str
    kernel: Any
    types: tuple[str, ...]  # of the parameters that are no constants; "i32:16": a multiple of 16
    constants: dict[str, Any]
    options: dict[str, Any]


def specialisations() -> list[Specialisation]:
    """Those that are compiled in tests and listed in benchmarks/gpu_resources.md."""
    from medseg_fast.kernels import conv_pool_triton, resample_argmax_triton, roi_align_triton

    found = []
    # An encoder's layer that leaves most of a chip idle, and one that does not.
    for dtype, rows, channels, outputs in (
        ("float16", 40000, 256, 256),
        ("float32", 40000, 256, 256),
        ("float32", 1024, 512, 512),
        ("float32", 160000, 3, 64),
    ):
        config = conv_pool_triton.configuration(rows, channels, outputs, 132)
        constants: dict[str, Any] = {
            "TAPS_Y": 3,
            "TAPS_X": 3,
            "STRIDE": 1,
            "DILATION": 1,
            "SIDE": 2,
            "MEAN": False,
            "ACTIVATION": "relu",
            "LAST": False,
            "SPLIT": dtype == "float32",
            "ROWS": config.rows,
            "OUTPUTS": config.outputs,
            "CHANNELS": config.channels,
            "WIDEN": False,
            "PRECISION": "ieee",
        }
        pointer = POINTERS[dtype]
        product = POINTERS["bfloat16" if dtype == "float32" else dtype]
        found.append(
            Specialisation(
                f"conv_pool_kernel {dtype}, {config.rows} x {config.outputs} x {config.channels}",
                conv_pool_triton.conv_pool_kernel,
                (product, product, pointer, pointer, "i32", *["i32:16"] * 2, *["i32"] * 6, "fp32"),
                constants,
                {
                    "num_warps": config.warps,
                    "num_stages": config.stages,
                    "enable_fp_fusion": True,
                },
            )
        )
    found.append(
        Specialisation(
            "pack_kernel float32",
            conv_pool_triton.pack_kernel,
            ("*fp32", "*bf16", *["i32:16"] * 2, "i32"),
            {"LAST": False, "SPLIT": True, "LOW_FIRST": True, "PIXELS": 64, "CHANNELS": 64},
            {"num_warps": 4},
        )
    )
    bins = {"BINS_Y": 7, "BINS_X": 7, "BINS": 64, "CHANNELS": 8, "ALIGNED": True}
    found.append(
        Specialisation(
            "roi_align_kernel float32",
            roi_align_triton.roi_align_kernel,
            ("*fp32", "*fp32", "*fp32", *["i32"] * 4, "fp32", "fp32", "i32"),
            bins,
            {"num_warps": 4, "enable_fp_fusion": True},
        )
    )
    found.append(
        Specialisation(
            "resample_argmax_kernel float32",
            resample_argmax_triton.resample_argmax_kernel,
            ("*fp32", "*u8", *["i32"] * 5, "fp32", "fp32"),
            {"ALIGN_CORNERS": False, "BLOCK": 256},
            {"num_warps": 4, "enable_fp_fusion": False},
        )
    )
    return found


def compile_for(wanted: Specialisation, architecture: int) -> Usage:
    """Compile for ``sm_<architecture>``; what it takes."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(wanted.kernel.arg_names)
    free = iter(wanted.types)
    types = {n: "constexpr" if n in wanted.constants else next(free) for n in names}
    # As at run time: pointers of tensors are aligned, which lets loads be wide.
    whole = [i for i, t in enumerate(types.values()) if t.startswith("*") or t.endswith(":16")]
    source = ASTSource(
        fn=wanted.kernel,
        signature={name: type.removesuffix(":16") for name, type in types.items()},
        constexprs=wanted.constants,
        attrs={(i,): [["tt.divisibility", 16]] for i in whole},
    )
    target = GPUTarget("cuda", architecture, 32)
    made = triton.compile(source, target=target, options=wanted.options)
    used = _usage(made.asm["cubin"])
    return Usage(used["REG"], used.get("LOCAL", 0), used["STACK"], int(made.metadata.shared))


def _usage(cubin: bytes) -> dict[str, int]:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(tool), "-res-usage", file.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {name: int(n) for name, n in re.findall(r"(REG|STACK|SHARED|LOCAL):(\d+)", text)}
