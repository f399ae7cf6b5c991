"""What a configuration describes: cases, network, batches, loss, and figures of what was learnt."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast.nn._training import config as configs
from medseg_fast.nn._training import dataset
from medseg_fast.nn._training.config import Config
from medseg_fast.nn._training.dataset import Case, Split


def read_split(config: Config, fold: int | None = None) -> Split:
    """Which of the folder's cases are for what."""
    from medseg_fast import nn

    data = config["data"]
    images = [data["images"]] if isinstance(data["images"], str) else data["images"]
    every = dataset.pairs([config.place(name) for name in images], config.place(data["labels"]))
    folds = None
    if fold is not None:
        count: int = data["folds"]

        def folds(whose: Sequence[str]) -> tuple[list[int], list[int]]:
            return nn.folds(whose, count)[fold]

    return dataset.split(
        every,
        test=data["test"],
        validation=data["validation"],
        patient=data["patient"],
        folds=folds,
    )


def channels_of(parts: Split) -> int:
    """The most that an image has: grey ones among colours count as colours."""
    every = [*parts.train, *parts.validation, *parts.test]
    return max(int(dataset.read_image(each.images).array.shape[-1]) for each in every)


def read_cases(config: Config, some: Sequence[dataset.Files], channels: int) -> list[Case]:
    data = config["data"]
    return [
        dataset.read_case(
            each,
            channels=channels,
            kind=data["target"],
            how=data["normalise"],
            spacing=data["spacing"],
        )
        for each in some
    ]


def make_network(config: Config, case: Case, channels: int, classes: int) -> Any:
    """The network of a configuration, with the weights it starts from."""
    import torch

    from medseg_fast import nn

    given = dict(config["network"])
    name = given.pop("name")
    known = [each for each in nn._NETWORKS if each not in ("lenet5", "mask_rcnn")]
    if name not in known:
        raise ValueError(
            f"{config.path.name}: network.name must be one of {', '.join(known)}, got {name!r}"
        )
    function = getattr(nn, name)
    arguments = {"in_channels": channels, "classes": classes, **given}
    code = function.__wrapped__.__code__
    allowed = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    if "ndim" in allowed:
        arguments.setdefault("ndim", case.label.ndim)
    if unknown := [key for key in arguments if key not in allowed]:
        raise ValueError(
            f"{config.path.name}: network.{unknown[0]} is not a key; {name} takes "
            f"{', '.join(allowed)}"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(config["training"]["seed"])
        network = function(**arguments)
    if start := config["training"]["start"]:
        nn.transfer(nn.load_model(config.place(start)), network)
    return network


def make_batches(config: Config, cases: Sequence[Case]) -> Any:
    """Batches of a configuration."""
    from medseg_fast import nn

    training = config["training"]
    return nn.Batches(
        [(case.pixels, case.label) for case in cases],
        batch=training["batch"],
        patch=training["patch"],
        foreground=training["foreground"],
        augment=_augmenter(config),
        seed=training["seed"],
    )


def _augmenter(config: Config) -> Any:
    given = dict(config["augment"])
    if not given:
        return None
    augment = import_module("medseg_fast.augment")
    try:
        return augment.Augmenter(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
        )
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.path.name}: augment: {error}") from None


def make_loss(config: Config) -> Any:
    """The sum of the losses of a configuration; None for `fit`'s own."""
    from medseg_fast import nn

    weights = config["loss"]
    if not weights:
        return None
    ignoring = {"dice", "jaccard", "tversky"}
    losses = [
        getattr(nn, configs.LOSSES[name])(
            **({"background": False, "batch": True} if name in ignoring else {})
        )
        for name in weights
    ]
    return nn.DeepSupervisionLoss(nn.CombinedLoss(losses, list(weights.values())))


def label(config: Config, network: Any, case: Case) -> Any:
    """What the network makes of a case, at the image's own pixels: labels or objects."""
    from medseg_fast import nn
    from medseg_fast.nn._training.instances import objects

    options = config["predict"]
    image = case.image
    given = (
        image if image.array.shape[-1] > 1 else image.like(image.array[..., 0], axes=_flat(image))
    )
    found = nn.predict(
        network,
        given,
        overlap=options["overlap"],
        mirror=range(network.ndim) if options["mirror"] else (),
        output="probabilities" if config["data"]["target"] == "instances" else "labels",
    ).array
    return objects(found) if config["data"]["target"] == "instances" else found


def _flat(image: Any) -> str:
    return str(image.axes).replace("c", "")


def figures(config: Config, network: Any, cases: Sequence[Case]) -> dict[str, Any]:
    """Figures on cases that were not learnt from, each and their means."""
    from medseg_fast.nn._training.validation import class_dice

    rows = {}
    for case in cases:
        found = label(config, network, case)
        if config["data"]["target"] == "instances":
            precision = ms.metrics.instance_average_precision(found, case.truth)
            row = {"dice": ms.dice(found != 0, case.truth != 0)}
            row |= {"ap50": precision.at(0.5), "ap50_95": precision.mean}
        else:
            truth = dataset.target(case.truth, config["data"]["target"])
            dice = class_dice(found, truth)
            row = {"dice": float(np.mean([*dice.values()])) if dice else 1.0}
            if len(dice) > 1:
                row |= {f"dice_{value}": figure for value, figure in dice.items()}
        rows[case.name] = {name: round(value, 6) for name, value in row.items()}
    names = dict.fromkeys(name for row in rows.values() for name in row)
    means = {
        name: round(float(np.mean([row[name] for row in rows.values() if name in row])), 6)
        for name in names
    }
    return {"mean": means, "cases": rows}
