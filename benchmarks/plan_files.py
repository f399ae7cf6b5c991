"""What saved plans take to start, and their memory, beside OpenVINO's model files.

``python benchmarks/plan_files.py [text]``: of the networks whose names have the text. Each figure
is of a fresh process that reads a file, compiles it and infers once: seconds from the first import
to the first result, and by how many MB its resident memory has grown at most since the imports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _runtimes import THREADS, converted_model

PROGRAM = """
import sys, time
start = time.perf_counter()
import numpy
{load}
x = numpy.load("x.npy")
open("/proc/self/clear_refs", "w").write("5")  # the peak so far is forgotten
def memory(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key))
    return int(line.split()[1]) / 1024
before = memory("VmRSS")
{infer}
print(time.perf_counter() - start, memory("VmHWM") - before)
assert "torch" not in sys.modules
"""
OURS = PROGRAM.format(
    load="from medseg_fast.nn import load_plan", infer=f"load_plan('plan', threads={THREADS})(x)"
)
OPENVINO = PROGRAM.format(
    load="import openvino",
    infer=f"""
options = {{"INFERENCE_NUM_THREADS": {THREADS}, "INFERENCE_PRECISION_HINT": sys.argv[1]}}
openvino.Core().compile_model("model.xml", "CPU", options)([x])
""",
)

Make = Callable[[Any], Any]
NETWORKS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "U-Net 64..1024, 256x256": (lambda nn: nn.unet(1, 2, padding="same"), (1, 1, 256, 256)),
    "U-Net 64..1024, 512x512": (lambda nn: nn.unet(1, 2, padding="same"), (1, 1, 512, 512)),
    "U-Net++, 256x256": (lambda nn: nn.unet_plus_plus(1, 2), (1, 1, 256, 256)),
    "FCN-8s, 512x512": (lambda nn: nn.fcn8s(3, 21, padding="same"), (1, 3, 512, 512)),
    "PSPNet, ResNet50, 512x512": (lambda nn: nn.pspnet(3, 21), (1, 3, 512, 512)),
    "3D U-Net, 64x64x64": (lambda nn: nn.unet(1, 2, ndim=3, padding="same"), (1, 1, 64, 64, 64)),
    "V-Net, 64x64x64": (lambda nn: nn.vnet(1, 2), (1, 1, 64, 64, 64)),
}


def measure(name: str, precision: str, processes: int = 3) -> list[tuple[float, float]]:
    """Seconds and MB of ours and of OpenVINO: medians."""
    import openvino
    import torch

    from medseg_fast import nn
    from medseg_fast.nn import _seam

    make, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = make(nn).eval().requires_grad_(False)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)

    class Model(torch.nn.Module):
        def forward(self, given: Any) -> Any:
            with _seam.torch_only():
                return model(given)

    with tempfile.TemporaryDirectory() as folder:
        np.save(Path(folder, "x.npy"), x)
        nn.optimize(model, x, precision=precision).save(Path(folder, "plan"))
        converted = converted_model(Model(), (torch.from_numpy(x),))
        openvino.save_model(converted, Path(folder, "model.xml"), compress_to_fp16=False)
        hint = "bf16" if precision == "bfloat16" else "f32"

        # Modules are compiled once, as installed ones are.
        kept = {"PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(Path(folder, "modules"))}

        def run(program: str) -> list[float]:
            done = subprocess.run(
                [sys.executable, "-c", program, hint],
                cwd=folder,
                env={**os.environ, **kept},
                capture_output=True,
                text=True,
                check=True,
            )
            return [float(word) for word in done.stdout.split()]

        return [
            tuple(np.median([run(program) for _ in range(1 + processes)][1:], axis=0))
            for program in (OURS, OPENVINO)
        ]


if __name__ == "__main__":
    text = "".join(sys.argv[1:2])
    for name in NETWORKS:
        for precision in ("float32", "bfloat16"):
            if text in name:
                (s, mb), (other_s, other_mb) = measure(name, precision)
                print(
                    f"{name}, {precision}: {s:.2f} s, {mb:.0f} MB; OpenVINO {other_s:.2f} s, "
                    f"{other_mb:.0f} MB; memory {mb / other_mb:.2f}",
                    flush=True,
                )
