"""Import after NumPy, and the first call against a warm one: ``python benchmarks/startup.py``.

Each figure is the median of fresh processes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys

PROGRAM = """
import time, numpy
image = numpy.random.default_rng(0).integers(0, 256, (512, 512), numpy.uint8)
start = time.perf_counter()
import medseg_fast
imported = time.perf_counter() - start
def call():
    start = time.perf_counter()
    medseg_fast.label(image > 128)
    medseg_fast.threshold_otsu(image)
    return time.perf_counter() - start
first = call()
warm = sorted(call() for _ in range(21))[10]
print(1e3 * imported, 1e3 * (first - warm))
"""


def measure(processes: int = 15) -> tuple[float, float]:
    """Milliseconds of the import, and by which the first label + Otsu call exceeds a warm one."""
    runs = []
    for _ in range(processes):
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
        runs.append([float(text) for text in done.stdout.split()])
    imports, extras = zip(*runs, strict=True)
    return statistics.median(imports), statistics.median(extras)


if __name__ == "__main__":
    imported, extra = measure()
    print(f"import after numpy {imported:.1f} ms; first call {extra:.1f} ms over a warm one")
