"""Measures every case and rewrites README.md: ``python benchmarks/report.py [family ...]``.

With family names only their rows are measured anew; the others keep theirs (results.json).
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from _cases import measure  # noqa: E402
from _machine import describe  # noqa: E402


def main(families: list[str]) -> None:
    store = HERE / "results.json"
    results = json.loads(store.read_text()) if store.exists() else {}
    known = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    for family in families or known:
        rows = []
        for case in importlib.import_module(f"bench_{family}").CASES:
            row = measure(case)
            times, best = row["times"], row["best"]
            rows.append(
                {
                    "operation": case.operation,
                    "data": case.data,
                    "ms_1": times["ours_1"],
                    "ms_2": times["ours_2"],
                    "copy_ms": times["copy"],
                    "best": best,
                    "rivals": row["rivals"],
                    "differs": case.differs,
                    "target": case.target,
                }
            )
            print(format_row(rows[-1]), flush=True)
        results[family] = {"machine": describe(), "rows": rows}
        store.write_text(json.dumps(results, indent=1) + "\n")
    (HERE / "README.md").write_text(render(results))


def format_row(row: dict) -> str:
    best = row["best"]
    best_ms = row["rivals"][best] if best else float("nan")
    ratios = f"{best_ms / row['ms_1']:.2f} | {best_ms / row['ms_2']:.2f}"
    rival = f"{best} {best_ms:.2f}" + ("*" if best in row["differs"] else "")
    target = f"{row['target']:g}" if row["target"] else ""
    return (
        f"| {row['operation']} | {row['data']} | {row['ms_1']:.2f} | {row['ms_2']:.2f} | {rival} "
        f"| {ratios} | {target} | {row['ms_2'] / row['copy_ms']:.2f} |"
    )


INTRODUCTION = """# Benchmarks

Written by `python benchmarks/report.py`; do not edit. Every rival's result was first compared with
ours; a rival marked * computes something else (named below the table) and is timed all the same.
All calls of a row run in turn in one process; times are medians in milliseconds. A ratio above 1
means that we are faster than the fastest rival at its best; the bar is what the ratio with 2
threads has to reach. `/ copy` is our time with 2 threads over that of copying the input."""

HEADER = (
    "| operation | data | ours, 1 thread | ours, 2 threads | fastest rival "
    "| ratio, 1 | ratio, 2 | bar | / copy |"
)


def render(results: dict) -> str:
    lines = [INTRODUCTION]
    for family, result in sorted(results.items()):
        lines += ["", f"## {family}", "", result["machine"], ""]
        lines += [HEADER, "|---" * 9 + "|"]
        lines += [format_row(row) for row in result["rows"]]
        notes = {f"{k}: {v}" for row in result["rows"] for k, v in row["differs"].items()}
        lines += ["", *[f"\\* {note}  " for note in sorted(notes)]] if notes else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main(sys.argv[1:])
