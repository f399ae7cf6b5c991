"""Streams over OpenIGTLink, there and back: ``python benchmarks/stream.py --write`` (half an hour).

A feeder in another process sends frames at their rate and gets the masks. Every row stands beside
a pipeline that does nothing, with the same frames in the same run, and is measured once alone and
once while another process uses a CPU fully (at 30 per second at most, as its bars say).

    python benchmarks/stream.py --seconds 5              # all rows, for a look; writes nothing
    python benchmarks/stream.py --only Canny --write     # measure these anew
    python benchmarks/stream.py --memory --write         # ten minutes: does memory grow?

Figures are kept in stream.json, of this machine alone, and shown in stream.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import socket
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from _machine import describe
from _stream_rows import ROWS, Row, cut, nothing, ultrasound

from medseg_fast import stream
from medseg_fast._app.stream_bench import Load, replay
from medseg_fast.stream._thread import pin
from medseg_fast.stream.igtl import Client, Image, Server

HERE = Path(__file__).parent
BUSY_FPS = 30
MISSES = 0.001  # of all frames


def measure(row: Row, seconds: float, busy: bool, priority: int | None) -> dict[str, Any]:
    """The row's figures, those of doing nothing, and what of the bars was not reached."""
    frames = row.frames(*row.size)
    fps = min(row.fps, BUSY_FPS) if busy else row.fps
    load = Load(frames, fps, seconds)
    how: dict[str, Any] = {
        "deadline_ms": row.oldest or 1000 / fps,
        "late": "send" if row.oldest is None else "drop",
        "busy": busy,
        "priority": priority,
    }
    idle = replay(load, nothing(frames), **how)
    found = idle if row.step is nothing else replay(load, row.step(frames), **how)
    failed = [
        f"{name.replace('_', ' ')} p99 above {bar:g}"
        for name, bar in row.bars.items()
        if not found[name].get("p99", np.inf) <= bar
    ]
    if found["lost"]:
        failed.append(f"{found['lost']} lost")
    if row.oldest is not None:
        if not found["age"].get("max", np.inf) <= row.oldest:
            failed.append(f"greatest age above {row.oldest:g}")
    elif found["misses"] + found["dropped"] > MISSES * found["frames"]:
        failed.append(f"late or dropped above {100 * MISSES:g} %")
    return {"fps": fps, "found": found, "idle": idle, "failed": failed, "seconds": seconds}


# --- a peer that is killed


def _scanner(pipe: Any, port: int, image: Any, garbage: bool) -> None:
    """Sends images, or what is none, until it is killed."""
    if garbage:
        listener = socket.create_server(("127.0.0.1", port))
        pipe.send(time.time())
        peer, _ = listener.accept()
        peer.sendall(os.urandom(1 << 16))
        time.sleep(60)
    with Server(port) as server:
        pipe.send(time.time())
        while True:
            server.send(Image(image[None], timestamp_ns=time.time_ns()))
            time.sleep(1 / 60)


def reconnects(times: int) -> list[float]:
    """Seconds from when a killed scanner listens again until the next mask, one after the other.

    Every other time something else that sends garbage has its port before.
    """
    image = np.zeros((480, 640), np.uint8)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    came: list[float] = []
    source = stream.IgtlSource(Client(port=port, policy="block"))
    found = []
    with stream.Pipeline(source, nothing([]), lambda result: came.append(time.time())):
        for number in range(times + 1):
            for garbage in (True, False) if number % 2 else (False,):
                ours, theirs = context.Pipe()
                arguments = (theirs, port, image, garbage)
                process = context.Process(target=_scanner, args=arguments, daemon=True)
                process.start()
                begin = ours.recv()
                time.sleep(1.5)
                process.kill()
                process.join()
            found.append(min((t for t in came if t > begin), default=np.inf) - begin)
    return found[1:]


# --- memory


def memory(seconds: float, priority: int | None) -> dict[str, float]:
    """Resident MB of this process over a run of the tracked cut, and Python's blocks per frame."""
    frames = ultrasound(512, 512)
    page = os.sysconf("SC_PAGE_SIZE") / 2**20
    # There from the start, so that what is watched does not grow by its being watched.
    samples = np.zeros((2 * int(seconds) + 60, 2))
    taken = 0
    ended = threading.Event()

    def watch() -> None:
        nonlocal taken
        while not ended.wait(1.0) and taken < len(samples):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            samples[taken] = resident, sys.getallocatedblocks()
            taken += 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        load = Load(frames, 30, seconds)
        replay(load, cut(frames), deadline_ms=1000 / 30, priority=priority)
    finally:
        ended.set()
        thread.join()
    warm = max(taken // 20, min(10, taken // 2))
    size, blocks_then = samples[warm:taken].T.tolist()
    tenth = max(1, len(size) // 10)
    begin, end = statistics.median(size[:tenth]), statistics.median(size[-tenth:])
    # Of the last half: Python keeps up to 2000 tuples of a length for later, which fill up first.
    half = blocks_then[len(blocks_then) // 2 :]
    blocks = (half[-1] - half[0]) / (30 * max(len(half) - 1, 1))
    return {
        "seconds": seconds,
        "begin": begin,
        "end": end,
        "most": max(size),
        "grown": 100 * (end / begin - 1),
        "blocks": blocks,
    }


# --- the page


HEADS = [
    "stream",
    "per second",
    "another process",
    "frames / back / dropped / lost",
    "arrival p50 / p99",
    "compute p50 / p99 / max",
    "end to end p50 / p99 / max",
    "nothing, end to end p50 / p99",
    "misses",
    "bars",
    "reached",
]


def line(row: Row, busy: bool, figures: dict[str, Any]) -> list[str]:
    found, idle = figures["found"], figures["idle"]

    def times(of: dict[str, Any], name: str, *which: str) -> str:
        return " / ".join(f"{of[name][w]:.2f}" for w in which) if of[name] else "-"

    bars = [f"{name.replace('_', ' ')} {bar:g}" for name, bar in row.bars.items()]
    if row.oldest is not None:
        bars.append(f"greatest age {row.oldest:g}, is {found['age'].get('max', np.inf):.1f}")
    return [
        row.name,
        f"{figures['fps']:g}",
        "a CPU" if busy else "-",
        " / ".join(str(found[key]) for key in ("frames", "back", "dropped", "lost")),
        times(found, "arrival", "p50", "p99"),
        times(found, "compute", "p50", "p99", "max"),
        times(found, "end_to_end", "p50", "p99", "max"),
        times(idle, "end_to_end", "p50", "p99"),
        f"{found['misses']} ({100 * found['misses'] / max(found['frames'], 1):.2f} %)",
        ", ".join(bars),
        "; ".join(figures["failed"]) or "yes",
    ]


def page(kept: dict[str, Any]) -> str:
    runs = [(row, busy) for row in ROWS for busy in (False, True) if key(row, busy) in kept]
    rows = [line(row, busy, kept[key(row, busy)]) for row, busy in runs]
    seconds = sorted({kept[key(row, busy)]["seconds"] for row, busy in runs})
    lines = [
        "# Streams",
        "",
        "Milliseconds. Arrival: from sending a frame over OpenIGTLink (loopback) until the "
        "pipeline has it. Compute: the steps. End to end: from sending a frame until its mask has "
        "come back to the sender, which is another process. Nothing: a pipeline that passes the "
        "same frames on, in the same run, which is what the machine and the transport take. A "
        "miss: sent more than the time of a frame after its arrival. Bars are those of p99, and "
        f"{100 * MISSES:g} % of misses and drops; beside another process that uses a CPU fully "
        f"they count at {BUSY_FPS} per second at most.",
        "",
        f"{kept['machine']}; real-time priority {kept['priority'] or 'none'}; "
        f"{', '.join(f'{s:g}' for s in seconds)} s each. Made by "
        "`python benchmarks/stream.py --write`.",
        "",
        "| " + " | ".join(HEADS) + " |",
        "|" + "---|" * len(HEADS),
        *("| " + " | ".join(row) + " |" for row in rows),
        "",
    ]
    if "reconnects" in kept:
        most = max(kept["reconnects"])
        lines += [
            f"A scanner killed {len(kept['reconnects'])} times, with another that sends garbage on "
            f"its port in between: masks again {most:.2f} s at most after it is back (bar: 1 s).",
            "",
        ]
    if "memory" in kept:
        lines += [memory_line(kept["memory"]), ""]
    return "\n".join(lines)


def memory_line(m: dict[str, float]) -> str:
    return (
        f"Resident memory over {m['seconds'] / 60:.1f} minutes of the tracked graph cut at 30 per "
        f"second: {m['begin']:.1f} MB after the first twentieth, {m['end']:.1f} MB at the end "
        f"({m['grown']:+.2f} %; bar: 1 %), {m['most']:.1f} MB at most; {m['blocks']:+.3f} blocks "
        "of Python's per frame in the last half."
    )


def key(row: Row, busy: bool) -> str:
    return row.name + (", busy" if busy else "")


def real_time(priority: int) -> int | None:
    """The priority, or none where this process has no right to it."""
    if priority == 0:
        return None
    failed: list[BaseException] = []

    def try_it() -> None:
        try:
            pin(None, priority)
        except PermissionError as error:
            failed.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    return None if failed else priority


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, help="of each run; 60, or 600 with --memory")
    parser.add_argument("--only", default="", help="rows whose name has this")
    parser.add_argument("--load", choices=("alone", "busy", "both"), default="both")
    parser.add_argument("--priority", type=int, default=20, help="0: none")
    parser.add_argument("--memory", action="store_true", help="only whether memory grows")
    parser.add_argument("--write", action="store_true", help="keep the figures")
    given = parser.parse_args()

    facts = {"machine": describe(), "priority": real_time(given.priority)}
    store = HERE / "stream.json"
    kept: dict[str, Any] = json.loads(store.read_text()) if store.exists() else {}
    if {name: kept.get(name) for name in facts} != facts:
        kept = dict(facts)

    def keep(name: str, figures: Any) -> None:
        kept[name] = figures
        if given.write:  # after each, as the next one may take minutes
            store.write_text(json.dumps(kept, indent=1) + "\n")
            (HERE / "stream.md").write_text(page(kept))

    if given.memory:
        figures = memory(given.seconds or 600, facts["priority"])
        print(memory_line(figures))
        keep("memory", figures)
        return
    for row in ROWS:
        for busy in {"alone": [False], "busy": [True], "both": [False, True]}[given.load]:
            if given.only in row.name:
                figures = measure(row, given.seconds or 60, busy, facts["priority"])
                print(" | ".join(line(row, busy, figures)), flush=True)
                keep(key(row, busy), figures)
    if given.only in "reconnects":
        found = reconnects(3 if (given.seconds or 60) < 60 else 10)
        print("seconds to reconnect:", ", ".join(f"{s:.2f}" for s in found))
        keep("reconnects", found)


if __name__ == "__main__":
    main()
