"""Learning rates over a run, and which parameter learns how fast."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn

from medseg_fast.nn._blocks import choice

OPTIMISERS = ("adamw", "sgd")
SCHEDULES = ("poly", "cosine", "one-cycle", "constant")

_POWER = 0.9  # of "poly": DeepLab's and nnU-Net's
_RISE = 0.3  # part of "one-cycle" in which the rate rises, and what it starts and ends with
_FIRST, _LAST = 1 / 25, 1e-4


def factor(schedule: str, step: int, steps: int, warmup: int) -> float:
    """What the rate is multiplied by at a step; a function of the step alone."""
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1, steps - warmup)
    if schedule == "poly":
        return float((1 - done) ** _POWER)
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "one-cycle":
        if done < _RISE:
            return _between(_FIRST, 1, done / _RISE)
        return _between(1, _LAST, (done - _RISE) / (1 - _RISE))
    return 1.0


def _between(start: float, end: float, part: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * part)) / 2


def optimiser(
    kind: str | Callable[[list[dict[str, Any]]], torch.optim.Optimizer],
    network: nn.Module,
    rate: float,
    decay: float,
    rates: Mapping[str, float] | None,
) -> torch.optim.Optimizer:
    """An optimiser with one group for each factor of the rate, with and without weight decay.

    Biases and the scales of norms, all of one axis, do not decay.
    """
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    used = set()
    for name, parameter in network.named_parameters():
        if not parameter.requires_grad:
            continue
        pattern = next((p for p in rates or () if fnmatchcase(name, p)), None)
        used.add(pattern)
        scale = rates[pattern] if rates and pattern else 1.0
        groups.setdefault((scale, parameter.ndim > 1), []).append(parameter)
    if unused := [pattern for pattern in rates or () if pattern not in used]:
        raise ValueError(f"fit: rates: no parameter that learns is called {unused[0]!r}")
    if not groups:
        raise ValueError("fit: no parameter of the network learns: all are frozen")
    listed: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": rate * scale,
            "full_rate": rate * scale,
            "weight_decay": decay if decays else 0.0,
        }
        for (scale, decays), parameters in groups.items()
    ]
    if callable(kind):
        return kind(listed)
    choice("fit", "optimiser", kind, OPTIMISERS)
    if kind == "sgd":
        return torch.optim.SGD(listed, lr=rate, momentum=0.99, nesterov=True)
    return torch.optim.AdamW(listed, lr=rate, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, scale: float) -> float:
    """Multiply every group's full rate; returns the largest."""
    for group in optimiser.param_groups:
        group["lr"] = group["full_rate"] * scale
    return max(float(group["lr"]) for group in optimiser.param_groups)


@contextmanager
def frozen(network: nn.Module, patterns: Sequence[str]) -> Iterator[list[nn.Module]]:
    """Parameters of these names do not learn within the block.

    Yields the modules none of whose own parameters learn: their norms must not follow the data.
    """
    before = {name: p.requires_grad for name, p in network.named_parameters()}
    for pattern in patterns:
        named = [name for name in before if fnmatchcase(name, pattern)]
        if not named:
            some = ", ".join(list(before)[:4])
            raise ValueError(
                f"fit: freeze: no parameter is called {pattern!r}; there are {some}, ..."
            )
        for name in named:
            network.get_parameter(name).requires_grad_(False)
    try:
        yield [
            module
            for module in network.modules()
            if (own := list(module.parameters(recurse=False)))
            and not any(parameter.requires_grad for parameter in own)
        ]
    finally:
        for name, learns in before.items():
            network.get_parameter(name).requires_grad_(learns)
