"""Damaged plan files: an error that says so, or a result, but never a crash."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from medseg_fast import nn

torch = pytest.importorskip("torch")

_KEY = "medseg_fast.plan"


class Everything(torch.nn.Module):
    """Most steps that a plan has."""

    def __init__(self):
        super().__init__()
        layers = torch.nn
        self.first = layers.Conv2d(1, 16, 5, padding=2)
        self.norm = layers.GroupNorm(4, 16)
        self.act = layers.PReLU(16)
        self.pool = layers.MaxPool2d(3, 2, 1)
        self.second = layers.Conv2d(16, 32, 3, padding=1)
        self.mean = layers.AdaptiveAvgPool2d(4)
        self.up = layers.ConvTranspose2d(32, 32, 2, 2)
        self.last = layers.Conv2d(64, 2, 1)

    def forward(self, x):
        x = self.pool(self.act(self.norm(self.first(x))))
        x = self.second(x).relu()
        size = (x.shape[2] * 2, x.shape[3] * 2)
        small = torch.nn.functional.interpolate(self.mean(x), size=size, mode="bilinear")
        return self.last(torch.cat([self.up(x), small], 1)).softmax(1)


def split(content):
    """The header's parts, and the tensors."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    return header, json.loads(header["__metadata__"][_KEY]), content[8 + length :]


def joined(header, parts, rest):
    header = {**header, "__metadata__": {_KEY: json.dumps(parts)}}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + rest


def numbers(value, path=()):
    """The places of all numbers."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, each in items:
        if isinstance(each, dict | list):
            yield from numbers(each, (*path, key))
        elif isinstance(each, int | float):
            yield (*path, key)


def changed(value, path, new):
    value = json.loads(json.dumps(value))
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return value


_LOAD = """
import sys
import numpy as np
from pathlib import Path
from medseg_fast import nn
refused = 0
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        plan = nn.load_plan(path)
        plan(*(np.ones(shape, np.float32) for shape in plan.input_shapes))
    except (ValueError, MemoryError, TypeError, LookupError) as error:
        refused += 1
print(refused)
"""


def _segnet():
    return nn.segnet(1, 3, widths=[16, 16, 16, 32, 32])


@pytest.mark.parametrize(
    ("make", "precision"),
    [(Everything, "float32"), (Everything, "bfloat16"), (Everything, "int8"), (_segnet, "float32")],
)
def test_no_damage_crashes(rng, tmp_path, make, precision):
    torch.manual_seed(0)
    shape = (1, 1, 33, 40) if make is Everything else (1, 1, 32, 32)
    made = tmp_path / "plan"
    nn.optimize(make().eval(), torch.rand(shape), precision=precision).save(made)
    header, parts, rest = split(made.read_bytes())
    folder = tmp_path / "damaged"
    folder.mkdir()
    places = [p for p in numbers(parts["steps"]) if p[1] == "arguments"]
    values = [-1, 0, 1, 2, 3, 7, 1000, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, 1 << 63, 0.5]
    for number in range(400):
        place = places[rng.integers(len(places))]
        new = values[rng.integers(len(values))]
        steps = changed(parts["steps"], place, new)
        (folder / f"{number:04}").write_bytes(joined(header, {**parts, "steps": steps}, rest))
    done = subprocess.run(
        [sys.executable, "-c", _LOAD, str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert 200 < int(done.stdout) < 400


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p["steps"][0].update(call="delete"), "no step 'delete'"),
        (lambda p: p["steps"][0].pop("arguments"), "is damaged: 'arguments'"),
        (lambda p: p["steps"][0].update(arguments=[]), "is damaged"),
        (lambda p: p.pop("inputs"), "is damaged: 'inputs'"),
    ],
)
def test_says_what_is_damaged(tmp_path, damage, message):
    made = tmp_path / "plan"
    nn.optimize(torch.nn.Conv2d(1, 2, 3).eval(), torch.rand(1, 1, 9, 9)).save(made)
    header, parts, rest = split(made.read_bytes())
    damage(parts)
    made.write_bytes(joined(header, parts, rest))
    with pytest.raises(ValueError, match=f"load_plan: path must name a whole plan.*{message}"):
        nn.load_plan(made)


def test_weights_that_are_cut_off(tmp_path):
    made = tmp_path / "plan"
    nn.optimize(torch.nn.Conv2d(1, 2, 3).eval(), torch.rand(1, 1, 9, 9)).save(made)
    made.write_bytes(made.read_bytes()[:-8])
    with pytest.raises(ValueError, match="is damaged: a tensor is not there"):
        nn.load_plan(made)


def test_steps_whose_maps_do_not_fit(tmp_path):
    """Each is within its memory, but not what the layer reads or writes."""
    made = tmp_path / "plan"
    model = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
    nn.optimize(model, torch.rand(1, 1, 9, 9)).save(made)
    header, parts, rest = split(made.read_bytes())
    (step,) = parts["steps"]
    full = next(i for i, a in enumerate(step["arguments"]) if isinstance(a, list) and len(a) == 9)
    smaller = changed(parts, ("steps", 0, "arguments", full, 5), [1, 8, 9])
    made.write_bytes(joined(header, smaller, rest))
    with pytest.raises(ValueError, match="maps that a convolution writes do not fit its sizes"):
        nn.load_plan(made)
    nowhere = changed(parts, ("steps", 0, "arguments", full), None)
    made.write_bytes(joined(header, nowhere, rest))
    with pytest.raises(ValueError, match="maps that a convolution writes do not fit its sizes"):
        nn.load_plan(made)
    padded = changed(parts, ("steps", 0, "arguments", 1, 2), [0, 2, 1])
    made.write_bytes(joined(header, padded, rest))
    with pytest.raises(ValueError, match="maps that a convolution writes do not fit its sizes"):
        nn.load_plan(made)
