"""Measures every case and rewrites README.md: ``python benchmarks/report.py [family ...]``.

With family names only their rows are measured anew, with ``--only TEXT`` only those that have the
text in their data's name; the others keep theirs (results.json).
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from _cases import measure  # noqa: E402
from _machine import describe  # noqa: E402
from startup import measure as measure_startup  # noqa: E402


def main(families: list[str], only: str) -> int:
    """How many rows were measured."""
    measured = 0
    store = HERE / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    for family in families or known:
        rows = []
        stored = {(r["operation"], r["data"]): r for r in results.get(family, {}).get("rows", [])}
        cases = importlib.import_module(f"bench_{family}").CASES
        if not any(only in case.data for case in cases):
            continue
        for case in cases:
            if only not in case.data:
                if (case.operation, case.data) in stored:
                    rows.append(stored[case.operation, case.data])
                continue
            row = measure(case)
            times, best = row["times"], row["best"]
            rows.append(
                {
                    "operation": case.operation,
                    "data": case.data,
                    "ms_1": times["ours_1"],
                    "ms_2": times["ours_2"],
                    "copy_ms": times["copy"],
                    "pixels": row["pixels"],
                    "best": best,
                    "best_1": row["best_1"],
                    "rivals": row["rivals"],
                    "differs": case.differs,
                    "target": case.target,
                }
            )
            measured += 1
            print(format_row(rows[-1]), flush=True)
        results[family] = {"machine": describe(), "rows": rows}
        store.write_text(json.dumps(results, indent=1) + "\n")
        (HERE / "README.md").write_text(render(results))  # a long run may be cut short
    if not (families or only) or "startup" not in results:
        results["startup"] = dict(
            zip(("import_ms", "first_call_ms"), measure_startup(), strict=True)
        )
        store.write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "README.md").write_text(render(results))
    return measured


def format_row(row: dict) -> str:
    cells = [row["operation"], row["data"], f"{row['ms_1']:.2f}", f"{row['ms_2']:.2f}"]
    if row["best"]:
        star = "\\*" if row["best"] in row["differs"] else ""
        cells.append(f"{row['best']}{star} {row['rivals'][row['best']]:.2f}")
        cells.append(f"{row['rivals'][row['best_1']] / row['ms_1']:.2f}")
        cells.append(f"{row['rivals'][row['best']] / row['ms_2']:.2f}")
    else:
        cells += ["none"] + [""] * 2
    cells.append(f"{row['target']:g}" if row["target"] else "")
    cells.append(f"{row['ms_2'] / row['copy_ms']:.2f}")
    cells.append(f"{1e6 * row['ms_2'] / row['pixels']:.3g}" if "pixels" in row else "")
    return f"| {' | '.join(cells)} |"


INTRODUCTION = """# Benchmarks

Written by `python benchmarks/report.py`; do not edit. Every rival's result was first compared with
ours; a rival marked * computes something else (named below the table) and is timed all the same.
All calls of a row run in turn in one process; times are medians in milliseconds. A ratio above 1
means that we are faster than the fastest rival: `ratio, 2` with two threads against every rival's
own choice of threads, `ratio, 1` with one thread against OpenCV on one thread and the others as
they come. The bar is what `ratio, 2` has to reach. `/ copy` is our time with two threads over that
of copying the input into memory already touched, `ns / pixel` our time with two threads over the
number of pixels. Our large results, too, lie in memory that earlier ones have left
(`medseg_fast.set_kept_memory`), which rivals do not offer: a first call takes longer."""

HEADER = (
    "| operation | data | ours, 1 thread | ours, 2 threads | fastest rival "
    "| ratio, 1 | ratio, 2 | bar | / copy | ns / pixel |"
)


def render(results: dict) -> str:
    startup = results["startup"]
    lines = [
        INTRODUCTION,
        "",
        f"Import after NumPy: {startup['import_ms']:.1f} ms. The first call takes "
        f"{startup['first_call_ms']:.1f} ms more than a warm one.",
    ]
    for family, result in sorted(results.items()):
        if family == "startup":
            continue
        lines += ["", f"## {family}", "", result["machine"], ""]
        lines += [HEADER, "|---" * 10 + "|"]
        lines += [format_row(row) for row in result["rows"]]
        notes = {f"{k}: {v}" for row in result["rows"] for k, v in row["differs"].items()}
        lines += ["", *[f"\\* {note}  " for note in sorted(notes)]] if notes else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("families", nargs="*", metavar="family")
    parser.add_argument("--only", default="", metavar="TEXT")
    asked = parser.parse_args()
    if main(asked.families, asked.only) == 0:
        parser.error(f"--only must be part of the data's name of a row, got {asked.only!r}")
