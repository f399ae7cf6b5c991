"""Mask R-CNN compiled: three plans, and the choice of boxes between them, without torch."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medseg_fast._cpu import core
from medseg_fast.nn import _arrays
from medseg_fast.nn._optimize import _file
from medseg_fast.nn._optimize import _regions as regions
from medseg_fast.nn._optimize._plan import Plan, StepReport
from medseg_fast.nn.functional.multiscale_roi_align import pool_levels, pyramid
from medseg_fast.nn.functional.nms import batched_nms
from medseg_fast.nn.functional.paste_masks import paste_masks

Array = NDArray[Any]

STAGES = ("maps", "boxes", "masks")


class DetectorPlan:
    """Mask R-CNN compiled by `optimize` for images of one size.

    Called as the model is: ``plan([image])`` with an image (C, H, W) of float32 in [0, 1] returns a
    list with a dictionary of boxes (N, 4), labels (N,), scores (N,) and masks (N, 1, H, W). Arrays
    give arrays, tensors give tensors. Several images are done one after the other.

    Attributes
    ----------
    stages : dict of str to Plan
        "maps": pyramid, scores and offsets of an image's anchors; "boxes": classes and offsets of
        pooled regions; "masks": of pooled detections, all but the last layer.
    precision : str
    threads : int or None
    classes : int
        The background (0) included.
    input_shapes : list of tuple of int
        Of the one image.
    peak_memory, weight_memory : int
        Bytes, as for a `Plan`: maps between layers of all stages, and packed weights.
    fallbacks : dict
        Layers that torch runs, and why: none.
    network : str
        The function of `medseg_fast.nn` that made the network.
    metadata : dict
        The model's, which `instances` reads.

    Notes
    -----
    Proposals are the same as the model's wherever no two scores are equal to rounding. Calls from
    several Python threads wait for one another.
    """

    def __init__(self, detector: dict[str, Any], stages: dict[str, Plan]) -> None:
        self._settings = detector
        self.stages = stages
        maps = stages["maps"]
        self.precision, self.threads = maps.precision, maps.threads
        self.input_shapes = [tuple(detector["image"])]
        self.classes = int(detector["classes"])
        self.network: str = detector["network"]
        self.metadata: dict[str, Any] = detector["metadata"]
        self.fallbacks: dict[str, str] = {}
        self.peak_memory = sum(plan.peak_memory for plan in stages.values())
        self.weight_memory = sum(plan.weight_memory for plan in stages.values())
        self._levels = len(maps.output_shapes) // 2  # the coarsest has no map to pool from
        sizes: list[tuple[int, int]] = [
            (shape[2], shape[3]) for shape in maps.output_shapes[self._levels :]
        ]
        self._pyramid = pyramid(
            "plan", maps.output_shapes[: self._levels], [detector["resized"]], None, 224, 4
        )
        padded = tuple(detector["padded"])
        self._anchors = np.concatenate(
            regions.anchors(sizes, padded, detector["anchor_sizes"], detector["anchor_ratios"])
        )
        self._results = {name: plan.empty_results() for name, plan in stages.items()}
        self._regions = {name: stages[name].inputs[0].empty() for name in ("boxes", "masks")}
        self._check()
        self._lock = threading.Lock()

    def _check(self) -> None:
        """Stages hand one another maps of one type and as many channels, side by side."""
        settings, boxes, masks = self._settings, self.stages["boxes"], self.stages["masks"]
        handed = [*self.stages["maps"].outputs[: self._levels], boxes.inputs[0], masks.inputs[0]]
        last = masks.outputs[0]
        alike = [(place.channels_last, place.dtype, len(place.shape)) for place in (*handed, last)]
        fits = alike == [(True, last.dtype, 4)] * len(alike)
        fits = fits and len({place.shape[1] for place in handed}) == 1
        fits = fits and settings["mask_weight"].shape == (self.classes, last.shape[1])
        if not fits or settings["mask_bias"].shape != (self.classes,):
            raise ValueError("the stages of a detector must fit one another")

    def __call__(self, images: Sequence[Any]) -> list[dict[str, Any]]:
        """Detections of each image, best first.

        Parameters
        ----------
        images : sequence of arrays or tensors of float32, shape (C, H, W)
            Of the size that it was made for.
        """
        found = []
        for image in images:
            shape = tuple(getattr(image, "shape", ()))
            if shape != self.input_shapes[0]:
                raise ValueError(
                    "plan: image must have the shape it was made for, "
                    f"{self.input_shapes[0]}, got {shape}"
                )
            with self._lock:
                detections = self._detections(_arrays.to_numpy(image)[None])
            if _arrays.is_tensor(image):
                like = image.detach()
                detections = {
                    name: _arrays.as_like(array, like if array.dtype.kind == "f" else like.long())
                    for name, array in detections.items()
                }
            found.append(detections)
        return found

    def _detections(self, image: Array) -> dict[str, Array]:
        settings = self._settings
        size, original = tuple(settings["resized"]), self.input_shapes[0][1:]
        maps = self._run("maps", image)
        features = maps[: self._levels]
        proposals = self._proposals(maps[self._levels :])
        logits, offsets = self._classified(features, proposals)
        boxes, labels, scores = self._chosen(logits, offsets, proposals)
        own = self._masks(features, boxes, labels)
        boxes = regions.resize(boxes, size, original)
        masks = paste_masks(own, boxes, original)
        return {"boxes": boxes, "labels": labels, "scores": scores, "masks": masks}

    def _run(self, stage: str, x: Array) -> list[Array]:
        """The results' memory is that of the last call."""
        results = self._results[stage]
        self.stages[stage](x, out=results)
        return results

    def _proposals(self, anchors: Sequence[Array]) -> Array:
        """The best boxes of all levels, by the scores and offsets of their anchors."""
        settings = self._settings
        index, level, kept_scores, kept_offsets, first = [], [], [], [], 0
        for number, (level_anchors,) in enumerate(anchors):
            count = len(level_anchors) // 5  # anchors of a pixel
            flat = np.moveaxis(level_anchors[:count], 0, -1).ravel()
            best = regions.largest(flat, settings["before"])
            pixel, which = np.divmod(best, count)
            grid = level_anchors[count:].reshape(count, 4, -1)
            index.append(best + first)
            level.append(np.full(len(best), number))
            kept_scores.append(flat[best])
            kept_offsets.append(grid[which, :, pixel])
            first += len(flat)
        chosen = np.concatenate(index)
        boxes = regions.decode(np.concatenate(kept_offsets), self._anchors[chosen], (1, 1, 1, 1))
        boxes = regions.clip(boxes[:, 0], tuple(settings["resized"]))
        likely = _arrays.sigmoid(np.concatenate(kept_scores))
        fits = regions.large(boxes, 1e-3) & (likely >= settings["proposal_score"])
        boxes, likely, of = boxes[fits], likely[fits], np.concatenate(level)[fits]
        kept = batched_nms(boxes, likely, of, settings["proposal_overlap"])
        proposals: Array = boxes[kept[: settings["after"]]]
        return proposals

    def _pooled(
        self, stage: str, features: Sequence[Array], boxes: Array
    ) -> Iterator[tuple[slice, list[Array]]]:
        """What a stage makes of the regions in the boxes, as many at a time as it takes."""
        pooled = self._regions[stage]
        batch = len(pooled)
        scales, *canonical = self._pyramid
        for first in range(0, len(boxes), batch):
            some = boxes[first : first + batch]
            count = len(some)
            rows = np.zeros((batch, 5), np.float32)  # of image 0; boxes of no size fill the rest
            rows[:count, 1:] = some
            pool_levels("plan", features, rows, scales, canonical, 2, pooled)
            results = self._run(stage, pooled)
            yield slice(first, first + count), [result[:count] for result in results]

    def _classified(self, features: Sequence[Array], boxes: Array) -> list[Array]:
        """Logits and offsets of all classes."""
        shapes = self.stages["boxes"].output_shapes
        found = [np.empty((len(boxes), *shape[1:]), np.float32) for shape in shapes]
        for part, results in self._pooled("boxes", features, boxes):
            for whole, result in zip(found, results, strict=True):
                whole[part] = result
        return found

    def _masks(self, features: Sequence[Array], boxes: Array, labels: NDArray[np.int64]) -> Array:
        """Of each box the mask of its class, (N, 1, rows, columns)."""
        weight, bias = (self._settings[name] for name in ("mask_weight", "mask_bias"))
        place = self.stages["masks"].outputs[0]
        masks = np.empty((len(boxes), *place.shape[2:]), np.float32)
        for part, (maps,) in self._pooled("masks", features, boxes):
            core.class_masks(place.memory(maps), labels[part], weight, bias, masks[part])
        return masks[:, None]

    def _chosen(
        self, logits: Array, offsets: Array, proposals: Array
    ) -> tuple[Array, NDArray[np.int64], Array]:
        """Boxes, classes and scores, best first."""
        settings = self._settings
        every = regions.softmax(logits)
        row, label = np.nonzero(every[:, 1:] > np.float32(settings["score"]))  # 0 is background
        label = label + 1
        scores = every[row, label]
        near = offsets.reshape(len(offsets), self.classes, 4)[row, label]
        boxes = regions.decode(near, proposals[row], settings["box_weights"])[:, 0]
        boxes = regions.clip(boxes, tuple(settings["resized"]))
        fits = regions.large(boxes, 1e-2)
        boxes, scores, label = boxes[fits], scores[fits], label[fits]
        kept = batched_nms(boxes, scores, label, settings["overlap"])[: settings["most"]]
        return boxes[kept], label[kept].astype(np.int64), scores[kept]

    @property
    def steps(self) -> list[StepReport]:
        """What all stages do, in order."""
        return [step for plan in self.stages.values() for step in plan.steps]

    def report(self) -> str:
        """The steps of each stage in a table, and what memory they need."""
        return "\n\n".join(f"{name}:\n{plan.report()}" for name, plan in self.stages.items())

    def __str__(self) -> str:
        return self.report()

    def __repr__(self) -> str:
        return f"<DetectorPlan for {self.input_shapes[0]}, {self.precision}>"

    def save(self, path: str | Path) -> None:
        """Write the plan to a file, which `load_plan` reads; see `Plan.save`."""
        parts = {name: plan.parts() for name, plan in self.stages.items()}
        _file.write(Path(path), {"detector": self._settings, "stages": parts})
