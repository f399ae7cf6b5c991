"""What a configuration describes: cases, network, batches, loss, and figures of what was learnt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

import medseg_fast as ms
from medseg_fast import augment
from medseg_fast.data import Case as _Labelled
from medseg_fast.data import Pair, PatchSampler
from medseg_fast.nn._training import config as configs
from medseg_fast.nn._training import dataset
from medseg_fast.nn._training.config import Config
from medseg_fast.nn._training.dataset import Case, Split

_MOST = 128  # values that may be classes: an atlas of the body's organs has fewer


def read_split(config: Config, fold: int | None = None) -> Split:
    """Which of the folder's cases are for what."""
    from medseg_fast import nn

    data = config["data"]
    images = [data["images"]] if isinstance(data["images"], str) else data["images"]
    if data["labels"] in images:
        raise ValueError(f"{config.path.name}: data.labels must not be a folder of data.images")
    every = dataset.pairs([config.place(name) for name in images], config.place(data["labels"]))
    folds = None
    if fold is not None:
        count: int = data["folds"]

        def folds(whose: Sequence[str]) -> tuple[list[int], list[int]]:
            try:
                return nn.folds(whose, count)[fold]
            except ValueError as error:
                raise ValueError(f"{config.path.name}: data.folds: {error}") from None

    parts = dataset.split(
        every,
        exclude=data["exclude"],
        test=data["test"],
        validation=data["validation"],
        patient=data["patient"],
        folds=folds,
    )
    if data["keep"] < 1:  # the first of an order drawn with the seed
        seed = config["training"]["seed"]
        order = np.random.default_rng(seed).permutation(len(parts.train))
        kept = sorted(order[: max(1, round(data["keep"] * len(order)))])
        parts = parts._replace(train=[parts.train[i] for i in kept])
    return parts


def channels_of(parts: Split) -> int:
    """The most that an image has: grey ones among colours count as colours."""
    every = [*parts.train, *parts.validation, *parts.test]
    return max(int(dataset.read_image(each.images).array.shape[-1]) for each in every)


def read_cases(config: Config, some: Sequence[Pair], channels: int) -> list[Case]:
    data = config["data"]
    return [
        dataset.read_case(
            each,
            channels=channels,
            kind=data["target"],
            how=data["normalise"],
            spacing=data["spacing"],
            unit=data["unit"],
        )
        for each in some
    ]


def count_classes(config: Config, cases: Sequence[Case]) -> int:
    """How many the labels have, at least 2; labels that can hardly be meant as classes raise."""
    values = sorted({int(value) for case in cases for value in np.unique(case.label)} | {0})
    where = config.path.name
    if config["data"]["target"] == "classes" and "classes" not in config["network"]:
        if values[-2:] == [0, 255]:
            raise ValueError(f'{where}: data.target must be "mask" for labels of 0 and 255')
        if len(values) > _MOST:
            raise ValueError(
                f"{where}: data.labels must be a folder of classes, got {len(values)} values: give "
                'the folder of the labels, data.target = "instances" if they number objects, or '
                "network.classes"
            )
    return max(2, 1 + values[-1])


def make_network(config: Config, case: Case, channels: int, classes: int) -> Any:
    """The network of a configuration, with the weights it starts from."""
    import torch

    from medseg_fast import nn
    from medseg_fast.nn._mask_rcnn import OPTIONS

    given = dict(config["network"])
    name = given.pop("name")
    if name not in nn._NETWORKS:
        raise ValueError(
            f"{config.path.name}: network.name must be one of {', '.join(nn._NETWORKS)}, "
            f"got {name!r}"
        )
    finds_objects = name == "mask_rcnn"
    if finds_objects != (config["data"]["target"] == "objects"):
        raise ValueError(
            f'{config.path.name}: data.target must be "objects" for mask_rcnn, and for it alone'
        )
    function: Any = nn.mask_rcnn.mask_rcnn if finds_objects else getattr(nn, name)
    code = function.__wrapped__.__code__
    allowed = [*code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]]
    arguments = {"in_channels": channels, **given}
    if finds_objects:  # of one class; images are normalised already
        allowed += OPTIONS
        arguments = {"image_mean": [0.0] * channels, "image_std": [1.0] * channels, **arguments}
        arguments["num_classes"] = 2
    else:
        arguments.setdefault("classes", _outputs(config, case, classes))
    if "ndim" in allowed:
        arguments.setdefault("ndim", case.label.ndim)
    if unknown := [key for key in arguments if key not in allowed]:
        raise ValueError(
            f"{config.path.name}: network.{unknown[0]} is not a key; {name} takes "
            f"{', '.join(allowed)}"
        )
    with torch.random.fork_rng([]):
        torch.manual_seed(config["training"]["seed"])
        try:
            network = function(**arguments)
        except (TypeError, ValueError) as error:
            named = [key for key in given if re.search(rf"\b{key}\b", str(error))] or [*given]
            keys = ", ".join(f"network.{key}" for key in named)
            raise ValueError(f"{config.path.name}: {keys}: {error}") from None
    _check_names(config, network)
    if start := config["training"]["start"]:
        nn.transfer(nn.load_model(config.place(start)), network)
    return network


def _outputs(config: Config, case: Case, classes: int) -> int:
    """Results of each pixel: one of each class; of a structured loss one of each in a patch."""
    from medseg_fast import nn

    if "structured" not in config["loss"]:
        return classes
    name, asked = config["network"]["name"], config["network"].get("classes")
    if name == "lenet5":
        raise ValueError(f"{config.path.name}: loss.structured must not be given for lenet5")
    wanted: int = nn.StructuredLoss().size ** case.label.ndim
    if asked not in (None, wanted):
        raise ValueError(
            f"{config.path.name}: network.classes must be {wanted} for loss.structured, one for "
            f"each pixel of a patch, got {asked!r}"
        )
    return wanted


def _check_names(config: Config, network: Any) -> None:
    """Refuse patterns that fit no parameter."""
    names = [name for name, _ in network.named_parameters()]
    patterns = {"training.freeze": config["training"]["freeze"], "rates": config["rates"]}
    for key, listed in patterns.items():
        for pattern in listed:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ValueError(
                    f"{config.path.name}: {key}: no parameter is called {pattern!r}; there are "
                    f"{', '.join(names[:4])}, ..."
                )


def check_axes(config: Config, ndim: int) -> None:
    """Refuse settings that are not for images of so many axes."""
    patch, mirror = config["training"]["patch"], config["predict"]["mirror"]
    if isinstance(patch, list) and len(patch) != ndim:
        raise ValueError(
            f"{config.path.name}: training.patch must be one number or {ndim}, got {patch}"
        )
    if isinstance(mirror, list) and max(mirror) >= ndim:
        raise ValueError(
            f"{config.path.name}: predict.mirror must be axes below {ndim}, got {mirror}"
        )


def make_sampler(config: Config, cases: Sequence[Case]) -> PatchSampler:
    """Batches of a configuration."""
    training, data = config["training"], config["data"]
    spacing = data["spacing"] if data["unit"] == "mm" else None
    patch = training["patch"]
    shapes = sorted({case.label.shape for case in cases})
    if patch is None and len(shapes) > 1:
        raise ValueError(
            f"{config.path.name}: training.patch is missing: images have shapes {shapes[:3]}"
        )
    return PatchSampler(
        [_Labelled(case.name, case.pixels, case.label, spacing) for case in cases],
        patch or shapes[0],
        training["batch"],
        foreground=training["foreground"],
        augmenter=_augmenter(config, cases[0].label.ndim),
        seed=training["seed"],
    )


def _augmenter(config: Config, ndim: int) -> augment.Augmenter | None:
    given = dict(config["augment"])
    if not given:
        return None
    make: Any = augment.standard if given.pop("standard", False) else augment.Augmenter
    settings = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        made: augment.Augmenter = make(**settings)
        # All changes at once tell whether they fit the axes.
        make(**{**settings, "probability": 1.0})(np.zeros((1, *(4,) * ndim), np.float32), seed=0)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config.path.name}: augment: {error}") from None
    return made


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
    if config["data"]["target"] == "objects":
        return nn.instances(network, given).labels.array
    mirror = options["mirror"]
    found = nn.predict(
        network,
        given,
        overlap=options["overlap"],
        mirror=mirror if isinstance(mirror, list) else range(network.ndim) if mirror else (),
        output="probabilities" if config["data"]["target"] == "instances" else "labels",
    ).array
    return objects(found) if config["data"]["target"] == "instances" else found


def _flat(image: Any) -> str:
    return str(image.axes).replace("c", "")


def figures(config: Config, network: Any, cases: Sequence[Case]) -> dict[str, Any]:
    """Figures on cases that were not learnt from: of each, their means, and IoU over all pixels.

    ``dice`` and ``jaccard`` are means over the classes but 0 that are there; ``iou`` counts the
    pixels of all cases together, and is the mean over all classes that are there, 0 among them.
    """
    from medseg_fast.nn._training.validation import class_dice

    kind = config["data"]["target"]
    rows = {}
    total = np.zeros((3, network.classes), np.int64)  # both, found, truth
    for case in cases:
        found = label(config, network, case)
        truth, classes = case.truth.astype(np.int64), found
        if kind != "classes":
            truth, classes = truth.clip(-1, 1), (found != 0).astype(np.int64)
        dice = class_dice(classes, truth)
        figure = float(np.mean([*dice.values()])) if dice else 1.0
        shared = [d / (2 - d) for d in dice.values()]
        row = {"dice": figure, "jaccard": float(np.mean(shared)) if shared else 1.0}
        if len(dice) > 1:
            row |= {f"dice_{value}": each for value, each in dice.items()}
        if kind in ("instances", "objects"):
            precision = ms.metrics.instance_average_precision(found, case.truth)
            row |= {"ap50": precision.at(0.5), "ap50_95": precision.mean}
        rows[case.name] = {name: round(value, 6) for name, value in row.items()}
        count, known = network.classes, truth >= 0
        classes, truth = classes[known], truth[known]
        for place, values in enumerate((classes[classes == truth], classes, truth)):
            total[place] += np.bincount(values, minlength=count)[:count]
    names = dict.fromkeys(name for row in rows.values() for name in row)
    means = {
        name: round(float(np.mean([row[name] for row in rows.values() if name in row])), 6)
        for name in names
    }
    union = total[1] + total[2] - total[0]
    there = total[2] > 0
    iou = float(np.mean(total[0][there] / union[there])) if there.any() else 1.0
    return {"mean": {**means, "iou": round(iou, 6)}, "cases": rows}
