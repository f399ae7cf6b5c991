"""The packaged scan, every method on it, and one page of HTML that shows the results."""

from __future__ import annotations

import base64
import html
import json
import math
import shlex
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from numpy.typing import NDArray

import medseg_fast as ms
from medseg_fast import io
from medseg_fast._app import edges, explore, files, render
from medseg_fast._app.compare import Row, agreement, compare, faster, text_table
from medseg_fast._methods import METHODS, Option
from medseg_fast.metrics import dice

Array = NDArray[Any]

_CARD_WIDTH = 760  # pixels of a method's picture: shown smaller, so sharp on dense screens
_MARK = '<meta name="generator" content="medseg-fast demo">'


@dataclass(frozen=True)
class Scan:
    """A packaged scan: the image, a mask of its target, and what to do with them."""

    example: io.Example
    volume: io.Volume
    truth: Array
    recipe: dict[str, Any]

    @property
    def image(self) -> Array:
        array: Array = self.volume.array
        return array

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(self.volume.spacing)


Result = tuple[Scan, Sequence[Row]]


def load(name: str) -> Scan:
    """Read a scan of `io.examples` and its recipe (data/demo.json) from the package."""
    example = io.example(name)
    recipes = json.loads((resources.files("medseg_fast") / "data" / "demo.json").read_text())
    volume, truth = io.read(example.image), io.read(example.truth).array != 0
    return Scan(example, volume, truth, recipes[name])


def chosen(names: Sequence[str] = ()) -> list[str]:
    """The methods to run: those named, else all whose libraries are installed."""
    able = [n for n, m in METHODS.items() if m.needs is None or find_spec(m.needs)]
    return [name for name in METHODS if name in (names or able)]


def options(scan: Scan, name: str) -> dict[str, Any]:
    """The recipe's options of a method, as the method takes them (seeds are tuples)."""
    given = dict(scan.recipe["methods"][name]["options"])
    for option in METHODS[name].options:
        value = given.get(option.name)
        if option.kind in ("index", "size") and isinstance(value, list):
            given[option.name] = [tuple(v) for v in value] if option.several else tuple(value)
        elif option.kind == "marker" and value is not None:
            given[option.name] = [(label, tuple(index)) for label, index in value]
    return given


def results(
    scans: Sequence[str],
    names: Sequence[str],
    *,
    seconds: float,
    peers: bool,
    threads: tuple[int, ...] = (),
    step: Callable[[str], None] = lambda name: None,
) -> list[Result]:
    """Run and time the methods on the scans; by default with all our threads."""
    counts = threads or (ms.get_num_threads(),)
    found: list[Result] = []
    for scan in map(load, scans):
        rows = []
        for name in names:
            step(name)
            given = options(scan, name)
            row = compare(
                METHODS[name],
                scan.image,
                given,
                spacing=scan.spacing,
                threads=counts,
                seconds=seconds,
                peers=peers,
            )
            rows.append(row)
        found.append((scan, rows))
    return found


def truth_dice(scan: Scan, row: Row) -> float | None:
    """Overlap with the expert's mask, for a method that the recipe lets seek the target."""
    recipe = scan.recipe["methods"][row.method]
    if "target" not in recipe:
        return None
    return dice(np.isin(row.labels, recipe["target"]), scan.truth)


def volume(scan: Scan, row: Row) -> float:
    """What the method found, all labels together, in ml."""
    return float(np.count_nonzero(row.labels) * math.prod(scan.spacing) / 1000)


def report(output: Path | None, results: Sequence[Result]) -> dict[str, Any]:
    """What --json prints."""
    return {
        "page": str(output) if output else None,
        "scans": [
            {
                "name": scan.example.name,
                "shape": list(scan.image.shape),
                "dtype": str(scan.image.dtype),
                "spacing_mm": [float(mm) for mm in scan.spacing],
                "rows": [
                    {
                        **row.as_json(),
                        "truth_dice": truth_dice(scan, row),
                        "millilitres": volume(scan, row),
                    }
                    for row in rows
                ],
            }
            for scan, rows in results
        ],
        "config": ms.show_config("dict"),
    }


def summary(output: Path | None, results: Sequence[Result]) -> str:
    """The same for a person."""
    lines = []
    for scan, rows in results:
        lines += [f"{scan.recipe['title']}: {describe(scan)}", "", text_table(list(rows)), ""]
        scores = [(row.method, truth_dice(scan, row)) for row in rows]
        found = [f"  {name}  {_floor(score)}" for name, score in scores if score is not None]
        if found:
            lines += [f"Dice with {scan.recipe['outline']}:", *found, ""]
    if output:
        lines.append(f"Wrote {output}: open it in a browser.")
    return "\n".join(lines).rstrip()


def describe(scan: Scan) -> str:
    """Size and type of the scan in words."""
    shape = " x ".join(map(str, scan.image.shape))
    spacing = " x ".join(f"{mm:.2f}" for mm in scan.spacing)
    return f"{shape} voxels of {spacing} mm, {scan.image.dtype}"


def check_output(output: Path, *, force: bool) -> None:
    """A page of this command may be replaced, another file only by force."""
    if output.is_file() and not force:
        with output.open("rb") as file:
            force = _MARK.encode() in file.read(400)
    files.check_writable([output], force=force)


def write_page(output: Path, results: Sequence[Result]) -> None:
    """Write one self-contained page: styles, script and pictures are inside it."""
    template = resources.files("medseg_fast._app") / "page.html"
    text = Template(template.read_text()).substitute(
        generator=_MARK,
        scans="\n".join(_section(scan, rows) for scan, rows in results),
        config=_config([row for _, rows in results for row in rows]),
    )
    with files.replacing(output) as temporary:
        temporary.write_text(text)


def _section(scan: Scan, rows: Sequence[Row]) -> str:
    """One scan: the picture, the numbers, the slider, the methods."""
    recipe = scan.recipe
    target, outline = html.escape(recipe["target"]), html.escape(recipe["outline"])
    picture = _picture(render.overlay(scan.volume, scan.truth, **_view(scan)))
    cards = "\n".join(_card(scan, row) for row in rows)
    return f"""<section>
<h2>{html.escape(recipe["title"])}</h2>
<p class="lead">{html.escape(recipe["text"])}</p>
<img {picture} alt="The scan with the {target} outlined, on three planes">
<p class="soft note">{html.escape(describe(scan))}. Outlined: {outline}. Scan:
{html.escape(scan.example.licence)}.</p>
<div class="facts">{_headline(rows)}</div>
<h3>Time and agreement</h3>
<p class="soft">Median milliseconds on this machine, each library in turn in one process, from
array to array. Agreement is with the peer's own result on the same scan; Dice is with the outline
above, for the methods that seek it.</p>
<div class="scroll"><table>
<thead><tr><th>method</th><th class=n>ours, ms</th><th class=n>peer, ms</th><th>peer</th>
<th class=n>faster</th><th>agreement with the peer</th><th class=n>Dice</th></tr></thead>
<tbody>
{_table(scan, rows)}
</tbody></table></div>
<h3>Drag the threshold</h3>
<p class="soft">The region connected to one voxel of the {target} within the dashed box, for every
threshold. ThresholdExplorer searches the scan once; then each region costs time in proportion to
its size only.</p>
{explore.section(scan)}
{edges.section(scan)}
<h3>Pictures</h3>
<div class="cards">
{cards}
</div>
</section>"""


def _view(scan: Scan) -> dict[str, Any]:
    return {"window": tuple(scan.recipe["window"]), "planes": tuple(scan.recipe["planes"])}


def _picture(picture: Any) -> str:
    width, height = picture.size
    data = base64.b64encode(render.png(picture)).decode()
    return f'src="data:image/png;base64,{data}" width="{width}" height="{height}"'


def _floor(value: float, digits: int = 3) -> str:
    """Cut, not rounded: 0.9999 must not read 1.000."""
    scale = 10**digits
    return f"{int(value * scale) / scale:.{digits}f}"


def _headline(rows: Sequence[Row]) -> str:
    timed = [row.times_faster for row in rows if row.times_faster]
    same = sum(row.identical is True for row in rows)
    facts = [(str(len(rows)), "methods")]
    if timed:
        middle = statistics.median(timed)
        facts += [
            (f"{int(middle * 10) / 10 if middle < 10 else int(middle)}×", "faster, median"),
            (f"{same} of {len(timed)}", "identical to the peer, voxel by voxel"),
        ]
    return "".join(f"<div><b>{value}</b><span>{name}</span></div>" for value, name in facts)


def _table(scan: Scan, rows: Sequence[Row]) -> str:
    lines = []
    slowest = max((row.times_faster or 0 for row in rows), default=0)
    for row in rows:
        score = truth_dice(scan, row)
        ratio = row.times_faster
        bar = ""
        if ratio:
            width = 100 * np.log1p(ratio) / np.log1p(slowest)
            bar = f'<i style="width:{width:.0f}%"></i>'
        lines.append(
            "<tr>"
            f'<th scope="row"><a href="#{_anchor(scan, row)}">{row.method}</a></th>'
            f"<td class=n>{_ms(row.ms[max(row.ms)])}</td>"
            f"<td class=n>{_ms(row.peer_ms)}</td>"
            f"<td>{html.escape(row.peer or 'none')}</td>"
            f'<td class="n ratio">{bar}<span>{faster(row).replace("x", "×") or "–"}</span></td>'
            f"<td>{html.escape(agreement(row)) or '–'}</td>"
            f"<td class=n>{'–' if score is None else _floor(score)}</td>"
            "</tr>"
        )
    return "\n".join(lines)


def _anchor(scan: Scan, row: Row) -> str:
    return f"{scan.example.name}-{row.method}"


def _ms(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _card(scan: Scan, row: Row) -> str:
    method = METHODS[row.method]
    recipe = scan.recipe["methods"][row.method]
    truth = scan.truth if "target" in recipe else None
    picture = render.overlay(scan.volume, row.labels, truth=truth, width=_CARD_WIDTH, **_view(scan))
    score = truth_dice(scan, row)
    facts = [("time", f"{_ms(row.ms[max(row.ms)])} ms")]
    if ratio := faster(row):
        facts.append(("faster", ratio.replace("x", "×")))
    if score is not None:
        facts.append((f"Dice, {scan.recipe['target']}", _floor(score)))
    facts += [(name, _value(value)) for name, value in row.found.items()]
    facts.append(("volume", f"{volume(scan, row):,.1f} ml"))
    listed = "".join(f"<div><dt>{html.escape(k)}</dt><dd>{v}</dd></div>" for k, v in facts)
    words = [
        "medseg-fast",
        "segment",
        "INPUT",
        "-o",
        "mask.nii.gz",
        *command(row.method, row.options),
    ]
    note = f"<p>{html.escape(recipe['note'])}</p>" if "note" in recipe else ""
    return f"""<article id="{_anchor(scan, row)}">
<small>{html.escape(method.family)}</small>
<h4>{row.method}</h4><p class=what>{html.escape(method.summary)}</p>
<img {_picture(picture)} alt="{row.method}: outline of the result on three planes" loading=lazy>
<dl>{listed}</dl>{note}
<pre><code>{html.escape(shlex.join(words))}</code></pre>
</article>"""


def _value(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_value(v) for v in value)
    return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))


def command(name: str, given: Mapping[str, Any]) -> list[str]:
    """The arguments of `medseg-fast segment` that run a method with these options."""
    words = ["-m", name]
    for option in METHODS[name].options:
        if option.name not in given:
            continue
        flag, value = "--" + option.name.replace("_", "-"), given[option.name]
        if option.kind == "flag":
            words += [flag] if value else []
            continue
        for one in value if option.several else [value]:
            words += [flag, _word(option, one)]
    return words


def _word(option: Option, value: Any) -> str:
    if option.kind == "marker":
        label, index = value
        return f"{label}:{','.join(map(str, index))}"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _config(rows: Sequence[Row]) -> str:
    config = ms.show_config("dict")
    peers = sorted({row.peer for row in rows if row.peer})
    facts = {
        "medseg_fast": f"{config['medseg_fast']['version']}, "
        f"commit {(config['medseg_fast']['commit'] or 'unknown')[:12]}",
        "build": f"{config['build']['chosen']}, {config['build']['compiler']}",
        "processor": f"{config['cpu']['model']}, {config['threads']} threads",
        "python": f"{config['python']}, NumPy {np.__version__}",
        "peers": ", ".join(peers) or "none installed",
    }
    return "".join(
        f"<div><dt>{name}</dt><dd>{html.escape(str(value))}</dd></div>"
        for name, value in facts.items()
    )
