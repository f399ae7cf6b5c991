"""The state of a run, its steps, and what is kept of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg_fast.nn._training import checkpoint, log, schedule
from medseg_fast.nn._training.distributed import World
from medseg_fast.nn._training.layers import quick_layers
from medseg_fast.nn._training.validation import Validator

_OP = "fit"
Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Settings:
    """What a run that goes on must have had from the start."""

    steps: int
    every: int
    checkpoint_every: int
    patience: int | None
    schedule: str
    warmup: int
    clip: float | None
    average: float | None
    precision: str
    seed: int
    rate: float
    weight_decay: float
    optimiser: str
    freeze: list[str]
    rates: dict[str, float]
    data: Any
    loss: Any
    validation: Any
    network: Any
    weights: dict[str, list[int]]  # their shapes


class Loop:
    """One run: `begin` loads what there is of it, `run` does the rest."""

    def __init__(
        self,
        network: nn.Module,
        data: Callable[[int], Any],
        objective: Callable[[nn.Module, Any, Any], Tensor],
        optimiser: torch.optim.Optimizer,
        settings: Settings,
        *,
        still: Sequence[nn.Module],
        validate: Validator | None,
        folder: Path | None,
        callbacks: Sequence[Callable[[nn.Module, dict[str, float]], Any]],
        world: World,
    ) -> None:
        self.network, self.data, self.objective = network, data, objective
        self.optimiser, self.settings = optimiser, settings
        self.still, self.validate, self.callbacks = still, validate, callbacks
        self.folder, self.world = folder, world
        self.device = next(network.parameters()).device

        self.step = 0
        self.history: list[dict[str, float]] = []
        self.best: float | None = None
        self.best_step: int | None = None
        self.best_weights: Weights | None = None
        self.stopped: str | None = None
        self.average: Weights | None = None
        self._seconds = 0.0  # of earlier sessions
        self._sum, self._count = 0.0, 0  # of losses since the last row

    def begin(self, resume: bool) -> None:
        """Go on from the checkpoint, if there is one."""
        if self.folder is not None and self.world.first:
            self.folder.mkdir(parents=True, exist_ok=True)
            for left in self.folder.glob(f".{checkpoint.NAME}.*.tmp"):
                left.unlink()  # of a run that was killed as it wrote
            if not resume:
                (self.folder / checkpoint.NAME).unlink(missing_ok=True)
        self.world.told(None)  # all wait for the first
        state = None
        if self.folder is not None:
            state = checkpoint.read(self.folder, asdict(self.settings))
        if state is None:
            if self.settings.average is not None:
                self.average = _copied(self.network)
            return
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for name in ("step", "history", "best", "best_step", "best_weights", "stopped"):
            setattr(self, name, state[name])
        self._seconds, self._sum, self._count = state["seconds"], state["sum"], state["count"]
        if state["average"] is not None:
            self.average = {k: v.to(self.device) for k, v in state["average"].items()}

    def run(self, progress: bool) -> None:
        """The steps that are left; afterwards the network has its final weights."""
        s = self.settings
        started = time.perf_counter()
        learner = self.world.wrap(self.network)
        writer = log.Log(self.folder if self.world.first else None, self.history)
        bar = log.Bar(progress and self.world.first, s.steps, self.step)
        cuda = [self.device] if self.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(cuda), self._batches() as batches:
                while self.step < s.steps and self.stopped is None:
                    value = self._learn(learner, *batches(self.step))
                    self.step += 1
                    self._sum, self._count = self._sum + value, self._count + 1
                    bar.step(f"loss {value:.4f}" + self._best_text())
                    row = self.step % s.every == 0 or self.step == s.steps
                    if row:
                        self._row(started)
                        writer.add(self.history)
                    if row or self.step % s.checkpoint_every == 0:
                        self._write(started)
        finally:
            bar.close()
            writer.close(self.history)
        self._finish()

    def _best_text(self) -> str:
        return "" if self.best is None else f", best {self.best:.4f}"

    def _learn(self, learner: nn.Module, images: Any, labels: Any) -> float:
        """One step of gradient descent; returns the loss."""
        s = self.settings
        learner.train()
        for module in self.still:
            module.eval()
        mixed = np.random.SeedSequence((s.seed, self.step, self.world.rank))
        torch.manual_seed(int(mixed.generate_state(1, np.uint64)[0] >> 1))
        scale = schedule.factor(s.schedule, self.step, s.steps, s.warmup)
        schedule.set_rate(self.optimiser, scale)
        self.optimiser.zero_grad(set_to_none=True)
        images, labels = _moved(images, self.device), _moved(labels, self.device)
        with quick_layers(self.network):
            with autocast(s.precision, self.device):
                loss = self.objective(learner, images, labels)
            value = loss.item()
            if not np.isfinite(value):
                raise FloatingPointError(
                    f"{_OP}: the loss is {value} at step {self.step}: a lower rate, a warmup, or "
                    "images without NaN may help"
                )
            loss.backward()
        if s.clip is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), s.clip)
        self.optimiser.step()
        self.world.share(self.network)
        if self.average is not None and s.average is not None:
            _blend(self.average, self.network, min(s.average, (1 + self.step) / (10 + self.step)))
        return value

    def _row(self, started: float) -> None:
        """Validate, and add a row to the history."""
        row: dict[str, float] = {
            "step": self.step,
            "loss": self.world.mean(self._sum / self._count),
            "rate": max(float(group["lr"]) for group in self.optimiser.param_groups),
        }
        self._sum, self._count = 0.0, 0
        if self.validate is not None:
            with self._final_weights():
                found = self.world.told(self._validated() if self.world.first else None)
                row.update(found)
                figure = next(iter(found.values()))
                # NaN, of classes that are absent everywhere, is never better.
                if figure > (-np.inf if self.best is None else self.best):
                    self.best, self.best_step = figure, self.step
                    self.best_weights = _copied(self.network, "cpu")
        row["seconds"] = round(self._seconds + time.perf_counter() - started, 3)
        self.history.append(row)
        if self.settings.patience is not None:
            waited = sum(r["step"] > (self.best_step or 0) for r in self.history)
            if waited >= self.settings.patience:
                self.stopped = "patience"
        answers = [callback(self.network, dict(row)) for callback in self.callbacks]
        asked = any(answer is True for answer in answers)
        if self.world.told(asked):
            self.stopped = "callback"

    def _validated(self) -> dict[str, float]:
        assert self.validate is not None
        self.network.eval()
        with torch.no_grad():
            found = self.validate(self.network)
        if isinstance(found, Mapping):
            if not found:
                raise ValueError(f"{_OP}: validation must return at least one figure, got none")
            return {str(name): float(value) for name, value in found.items()}
        return {"validation": float(found)}

    @contextmanager
    def _final_weights(self) -> Iterator[None]:
        """The averaged weights in the network, where there are any."""
        if self.average is None:
            yield
            return
        learning = _copied(self.network)
        self.network.load_state_dict(self.average)
        try:
            yield
        finally:
            self.network.load_state_dict(learning)

    def _write(self, started: float) -> None:
        if self.folder is None or not self.world.first:
            return
        checkpoint.write(
            self.folder,
            {
                "settings": asdict(self.settings),
                "network": self.network.state_dict(),
                "optimiser": self.optimiser.state_dict(),
                "average": self.average,
                "seconds": self._seconds + time.perf_counter() - started,
                "sum": self._sum,
                "count": self._count,
                **{
                    name: getattr(self, name)
                    for name in ("step", "history", "best", "best_step", "best_weights", "stopped")
                },
            },
        )

    def _finish(self) -> None:
        chosen = self.best_weights if self.best_weights is not None else self.average
        if chosen is not None:
            self.network.load_state_dict(chosen)
        self.network.eval()

    @contextmanager
    def _batches(self) -> Iterator[Callable[[int], tuple[Any, Any]]]:
        """Batches by step; while one is learnt from, a thread makes the next."""
        size, rank = self.world.size, self.world.rank

        def make(step: int) -> tuple[Any, Any]:
            images, labels = _pair(self.data(step))
            if size == 1:
                return images, labels
            if len(images) % size:
                raise ValueError(
                    f"{_OP}: a batch of {len(images)} cannot be shared by {size} processes"
                )
            return images[rank::size], labels[rank::size]

        with ThreadPoolExecutor(1, "medseg_fast-batches") as pool:
            ahead: dict[int, Future[tuple[Any, Any]]] = {}

            def batches(step: int) -> tuple[Any, Any]:
                future = ahead.pop(step, None) or pool.submit(make, step)
                if step + 1 < self.settings.steps:
                    ahead[step + 1] = pool.submit(make, step + 1)
                return future.result()

            try:
                yield batches
            finally:
                pool.shutdown(cancel_futures=True)


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        raise TypeError(f"{_OP}: data must give pairs of images and labels, got {type(batch)}")
    return batch[0], batch[1]


def _moved(value: Any, device: torch.device) -> Any:
    """Tensors, arrays, and lists and dicts of them, on the device."""
    if isinstance(value, np.ndarray):
        value = torch.from_numpy(value)
    if isinstance(value, Tensor):
        return value.to(device, non_blocking=True)
    if isinstance(value, (list, tuple)):
        return [_moved(each, device) for each in value]
    if isinstance(value, dict):
        return {name: _moved(each, device) for name, each in value.items()}
    return value


def autocast(name: str, device: torch.device) -> AbstractContextManager[Any]:
    """A block whose convolutions and products are of this precision."""
    if name == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def _copied(network: nn.Module, device: str | None = None) -> Weights:
    return {k: v.detach().to(device, copy=True) for k, v in network.state_dict().items()}


@torch.no_grad()
def _blend(average: Weights, network: nn.Module, keep: float) -> None:
    """Floats move a little towards the network's; counters are the network's."""
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - keep)
        else:
            average[name].copy_(value)
