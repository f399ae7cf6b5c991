"""`fit`: the loop in which a network learns."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from medseg_fast import _checks
from medseg_fast.data import PatchSampler
from medseg_fast.data._sampler import parts_of
from medseg_fast.nn._blocks import choice, positive
from medseg_fast.nn._training import schedule as schedules
from medseg_fast.nn._training.distributed import world
from medseg_fast.nn._training.identity import described
from medseg_fast.nn._training.loop import Loop, Settings
from medseg_fast.nn._training.objective import Loss, Objective, note_patches, of_network
from medseg_fast.nn._training.validation import Validator, validator

_OP = "fit"
PRECISIONS = ("float32", "bfloat16")
_ROWS = 50  # of the history, where nothing says what an epoch is


@dataclass(frozen=True)
class FitResult:
    """What `fit` did.

    Attributes
    ----------
    history : list of dict
        A row every `every` steps: ``step`` (steps done), ``loss`` (mean since the row before),
        ``rate``, ``seconds`` (since the start, breaks not counted), and what was validated.
    best : float or None
        The best first figure of the validation; None without one.
    best_step : int or None
        After how many steps that was.
    steps : int
        Steps done.
    stopped : {"steps", "patience", "callback"}
        Why no more.
    folder : str or None
        Where checkpoint, log and curves are.
    """

    history: list[dict[str, float]] = field(repr=False)
    best: float | None
    best_step: int | None
    steps: int
    stopped: str
    folder: str | None


def fit(
    network: nn.Module,
    data: Callable[[int], Any] | Sequence[tuple[Any, Any]],
    *,
    steps: int | None = None,
    epochs: int | None = None,
    batch: int = 2,
    patch: int | Sequence[int] | None = None,
    loss: Loss | None = None,
    objective: Objective | None = None,
    optimiser: str | Callable[[list[dict[str, Any]]], torch.optim.Optimizer] = "adamw",
    rate: float = 1e-3,
    weight_decay: float = 1e-2,
    schedule: str = "cosine",
    warmup: int = 0,
    clip: float | None = 1.0,
    average: float | None = None,
    precision: str = "float32",
    freeze: Sequence[str] = (),
    rates: Mapping[str, float] | None = None,
    validation: Validator | Sequence[tuple[Any, Any]] | None = None,
    every: int | None = None,
    patience: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    resume: bool = True,
    checkpoint_every: int | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    callbacks: Sequence[Callable[[nn.Module, dict[str, float]], Any]] = (),
    progress: bool = False,
) -> FitResult:
    """Train a network on labelled images; the same call again goes on where it was killed.

    Parameters
    ----------
    network : nn.Module
        (N, channels, [D,] H, W) -> logits (N, classes, [D,] H, W): a network of `medseg_fast.nn` or
        any other module. It is trained in place and ends in evaluation mode with the best weights
        where there is a `validation`, else with the last.
    data : callable or sequence of (image, label)
        ``data(step)`` gives the batch of a step: images (N, channels, ...) float32 and labels
        (N, ...) int64, tensors or arrays. It must depend on the step alone, and not on PyTorch's
        global random numbers: it runs in a thread beside the training. A
        `medseg_fast.data.PatchSampler` is such a function. Cases become one: arrays (channels, ...)
        or (...) and labels (...) of whole numbers, of which negative ones mean not labelled; or
        `medseg_fast.data.Cases`.
    steps, epochs : int
        How long: one of them. An epoch of cases has as many patches as there are cases; one of a
        function is ``len(data)`` steps, if it has a length, as a `PatchSampler` has.
    batch, patch : int, int or sequence of int, optional
        For cases: patches of a batch, pixels of a patch. Default: 2, and whole images, which must
        have one shape then.
    loss : callable, optional
        ``loss(logits, labels)`` gives a scalar: one of `medseg_fast.nn`'s, or any other. Default:
        `CrossEntropyLoss` plus `DiceLoss` of the classes but 0 over the batch; of all outputs where
        a network has several.
    objective : callable, optional
        ``objective(network, images, labels)`` instead of `loss`, where the loss is not one of
        logits and labels; both are as `data` gives them, moved to the device.
    optimiser : {"adamw", "sgd"} or callable, optional
        SGD has Nesterov momentum 0.99 as in nnU-Net. A callable gets parameter groups.
    rate, weight_decay : float, optional
        Largest learning rate; and decay, of weights only, not of biases or scales of norms.
    schedule : {"cosine", "poly", "one-cycle", "constant"}, optional
        How the rate falls to 0 over the steps: half a cosine; (1 - t) ** 0.9; or, after a rise from
        a 25th over 30 % of the steps, along a cosine.
    warmup : int, optional
        Steps before that, in which the rate rises linearly.
    clip : float, optional
        Largest norm of all gradients together; larger ones are scaled. None: as they are.
    average : float, optional
        Validate and return an exponential moving average of the weights, of which this much stays
        at each step (0.99 or so): steadier where data are few.
    precision : {"float32", "bfloat16"}, optional
        bfloat16: convolutions and products in it (autocast); weights stay float32.
    freeze : sequence of str, optional
        Patterns (``"encoder.*"``) of names of parameters that stay as they are; norms among them
        keep their statistics, too.
    rates : mapping of str to float, optional
        What the rate of parameters is multiplied by; by pattern of their names, the first that
        fits. `layer_rates` makes one that falls with depth.
    validation : sequence of (image, label), or callable, optional
        Cases, of which the mean Dice is the figure (predicted in windows of `patch`); or
        ``validation(network)``, which returns a number, or a dict of them whose first is the
        figure. More is better.
    every : int, optional
        Steps from one row of the history, and validation, to the next. Default: an epoch, where
        `epochs` are given or `data` are cases; else a 50th of the steps.
    patience : int, optional
        Stop when so many validations in a row were not better than the best; NaN never is.
    folder : path-like, optional
        For ``checkpoint.pt``, ``log.csv``, and with matplotlib ``curves.png``, with tensorboard
        ``tensorboard/``. It is made where it is missing.
    resume : bool, optional
        Go on from the folder's checkpoint if there is one, of a run with the same settings: all
        that is given here, with what losses, optimisers, samplers and augmenters were made with. Of
        functions and of objects that this package does not know, the name is compared; of cases
        the number. False: begin anew.
    checkpoint_every : int, optional
        Steps between checkpoints. Default: at each row.
    seed : int, optional
        Of everything that is random.
    device : str or torch.device, optional
        Where to train; the network is moved there. Default: where it is.
    callbacks : sequence of callable, optional
        Called as ``callback(network, row)`` after each row; one that returns True ends the run.
    progress : bool, optional
        A bar with the time that is left, on a terminal (needs click).

    Returns
    -------
    result : FitResult
        History, best figure, and why it ended.

    Raises
    ------
    ValueError
        If arguments or shapes do not fit, or the folder's checkpoint is of another run.
    FloatingPointError
        If the loss is not finite: the checkpoint before it stays.

    Notes
    -----
    All that is random at a step is a function of seed and step, so a run that was killed and called
    again ends with the same bits as one that was not, on the same machine with the same number of
    threads (on CUDA as far as PyTorch's kernels are deterministic). Checkpoints hold weights,
    optimiser, best weights and history, and replace one another only when they are on disk.

    On a CPU a step runs convolutions of 3 and 5 taps [3]_, batch and instance norms with the
    rectifiers after them, and pooling by 2 on kernels of our own, forward and back, in any network
    that is made of PyTorch's layers; their gradients cannot be differentiated again.

    Within ``torch.distributed`` (say ``torchrun``, with a process group) every process calls `fit`
    with the same arguments: each takes its part of every batch, gradients are averaged, the first
    process validates and writes.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", ICLR 2019.
    .. [2] F. Isensee et al., "nnU-Net: a self-configuring method for deep learning-based biomedical
       image segmentation", Nature Methods 18 (2021) 203-211.
    .. [3] A. Lavin and S. Gray, "Fast algorithms for convolutional neural networks", CVPR 2016.
    .. [4] L. N. Smith and N. Topin, "Super-convergence: very fast training of neural networks using
       large learning rates", 2018, arXiv:1708.07120.

    Examples
    --------
    >>> import numpy as np
    >>> from medseg_fast import nn
    >>> label = (np.hypot(*np.indices((32, 32)) - 16) < 9).astype(np.uint8)
    >>> image = label + np.random.default_rng(0).normal(0, 0.3, label.shape)
    >>> model = nn.unet(1, 2, widths=(4, 8), padding="same", norm="batch")
    >>> result = nn.fit(model, [(image, label)], steps=30, batch=1, rate=0.01)
    >>> result.history[-1]["loss"] < result.history[0]["loss"]
    True
    """
    if not isinstance(network, nn.Module):
        raise TypeError(f"{_OP}: network must be an nn.Module, got {type(network).__name__}")
    if loss is not None and objective is not None:
        raise ValueError(f"{_OP}: loss and objective exclude each other")
    choice(_OP, "schedule", schedule, schedules.SCHEDULES)
    choice(_OP, "precision", precision, PRECISIONS)
    for name, value in (("rate", rate), ("clip", clip)):
        if value is not None and not _checks.number(_OP, name, value) > 0:
            raise ValueError(f"{_OP}: {name} must be above 0, got {value}")
    if average is not None and not 0 < average < 1:
        raise ValueError(f"{_OP}: average must be between 0 and 1, got {average}")
    _checks.integer(_OP, "seed", seed, 0)
    _checks.integer(_OP, "warmup", warmup, 0)
    for name, factor in (("weight_decay", weight_decay), *_named("rates", rates)):
        if not 0 <= _checks.number(_OP, name, factor) < math.inf:
            raise ValueError(f"{_OP}: {name} must be finite and at least 0, got {factor}")
    by_epoch = epochs is not None or not callable(data)
    if not callable(data):
        positive(_OP, batch=batch)
        data = sampler(_OP, data, batch, patch, seed)
    epoch = len(data) if hasattr(data, "__len__") else None
    total = _total(epoch, steps, epochs)
    if every is None:
        every = epoch if by_epoch and epoch else max(1, total // _ROWS)
    checkpoint_every = every if checkpoint_every is None else checkpoint_every
    patience_or_one = 1 if patience is None else patience
    positive(_OP, every=every, checkpoint_every=checkpoint_every, patience=patience_or_one)
    if patience is not None and validation is None:
        raise ValueError(f"{_OP}: patience needs a validation")
    if device is not None:
        network.to(device)

    settings = Settings(
        steps=total,
        every=every,
        checkpoint_every=checkpoint_every,
        patience=patience,
        schedule=schedule,
        warmup=warmup,
        clip=clip,
        average=average,
        precision=precision,
        seed=seed,
        rate=rate,
        weight_decay=weight_decay,
        optimiser=described(optimiser),
        freeze=list(freeze),
        rates=described(rates or {}),
        data=described(data),
        loss=described(objective or loss or "default"),
        validation=described(validation if callable(validation) else len(validation or ())),
        network=_architecture(network),
        weights={name: list(value.shape) for name, value in network.state_dict().items()},
    )
    if objective is None:
        note_patches(network, loss)
    with schedules.frozen(network, freeze) as still:
        loop = Loop(
            network,
            data,
            objective or of_network(network, loss),
            schedules.optimiser(optimiser, network, rate, weight_decay, rates),
            settings,
            still=still,
            validate=None if validation is None else validator(validation, patch),
            folder=None if folder is None else Path(folder),
            callbacks=callbacks,
            world=world(),
        )
        loop.begin(resume)
        loop.run(progress)
    return FitResult(
        loop.history,
        loop.best,
        loop.best_step,
        loop.step,
        loop.stopped or "steps",
        None if folder is None else os.fspath(folder),
    )


def sampler(
    op: str,
    cases: Sequence[tuple[Any, Any]],
    batch: int,
    patch: int | Sequence[int] | None,
    seed: int,
) -> PatchSampler:
    """Batches of patches of cases, of whole images where no patch is given."""
    pairs = []
    for number, case in enumerate(cases):
        image, label, _ = parts_of(op, f"case {number} of data", case)
        pixels = np.asarray(image, np.float32)
        pairs.append((pixels[None] if pixels.ndim == label.ndim else pixels, label))
        _checks.finite(op, f"image of case {number}", pixels)
    if patch is None:
        shapes = sorted({label.shape for _, label in pairs})
        if len(shapes) > 1:
            raise ValueError(f"{op}: cases of several shapes, {shapes[:3]}: give patch")
        patch = shapes[0] if shapes else 1
    return PatchSampler(pairs, patch, batch, foreground=0.5, seed=seed)


def _named(name: str, values: Mapping[str, float] | None) -> list[tuple[str, float]]:
    return [(f"{name}[{key!r}]", value) for key, value in (values or {}).items()]


def _architecture(network: nn.Module) -> Any:
    """How a network was made: by which function of ours and with which arguments, if by one."""
    made = getattr(network, "architecture", None)
    if made is None:
        return type(network).__qualname__
    return described({"name": made.network, **made.arguments})


def _total(epoch: int | None, steps: int | None, epochs: int | None) -> int:
    if (steps is None) == (epochs is None):
        raise ValueError(f"{_OP}: one of steps and epochs must be given")
    if steps is not None:
        return _checks.integer(_OP, "steps", steps, 1)
    if epoch is None:
        raise ValueError(f"{_OP}: epochs need data with a length: give steps")
    return _checks.integer(_OP, "epochs", epochs, 1) * epoch
