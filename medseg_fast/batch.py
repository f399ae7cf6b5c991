"""One call for many images of one shape."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import numpy as np

from medseg_fast._dispatch import OPERATIONS, Operation, _route


def batch(operation: Callable[..., Any], images: Any, /, *args: Any, **kwargs: Any) -> Any:
    """Apply an operation to each of many images, on a GPU in one launch where there is one for it.

    An array (N, H, W) could be a volume; said this way it is a batch, and nothing crosses from one
    image to the next.

    Parameters
    ----------
    operation : function
        One of this package that takes an image: ``medseg_fast.canny``.
    images : array_like of shape (N, ...)
        N images, at least one, of any library's arrays.
    *args, **kwargs
        The operation's other arguments. Arrays of the images' shape (markers, masks, `out`) are
        taken apart with them; whatever else there is goes to every image as it is.

    Returns
    -------
    results : array or tuple of arrays
        The operation's results, stacked: numbers become an array (N,).

    Raises
    ------
    TypeError
        If `operation` is none of this package.
    ValueError
        If there is no image, or the results are of different shapes.

    Notes
    -----
    On the CPU images are worked on one after the other, each on all threads. On a GPU every
    operation with a kernel for images takes 2D ones together, in as many launches as one image
    takes (those that repeat launches go on until the last image is done); volumes go one after the
    other on the stream. Memory as for one image of all their pixels.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.batch(ms.label, [[[1, 0, 1]], [[0, 0, 1]]]).tolist()
    [[[1, 0, 2]], [[0, 0, 1]]]
    >>> ms.batch(ms.threshold_otsu, [[[0, 9]], [[0, 3]]]).tolist()
    [0, 0]
    """
    op = OPERATIONS.get(getattr(operation, "__name__", ""))
    if op is None or op.function is not operation:
        raise TypeError(
            f"batch: operation must be a function of medseg_fast that takes images, "
            f"got {operation!r}"
        )
    whole = _Batch(op)
    for value in (images, *args, *kwargs.values()):
        call = _route(value)
        if call is not None:
            return call(whole, (images, *args), kwargs)
    return whole.body(images, *args, **kwargs)


class _Batch(Operation):
    """An operation on all images of a batch."""

    def __init__(self, op: Operation) -> None:
        def body(images: Any, *args: Any, **kwargs: Any) -> Any:
            arrays = np.asarray(images)
            return _one_by_one(np, op.name, op.body, arrays, np.ndarray, args, kwargs)

        super().__init__(body, features=op.features, gpu=op.gpu)
        self.name = op.name

    def on_gpu(self, device: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        launch = getattr(import_module(f"medseg_fast._gpu.{self.gpu}"), self.name)
        images, *rest = args
        if isinstance(images, (list, tuple)):
            images = device.xp.stack(images)
        together = "apart" in inspect.signature(launch).parameters
        if together and images.ndim in (2, 3) and len(images):
            one = images.shape[1:]

            def spread(value: Any) -> Any:
                """A mask or markers of one image, for all of them."""
                if isinstance(value, device.array) and value.shape == one:
                    return device.xp.broadcast_to(value, images.shape)
                return value

            named = {name: spread(value) for name, value in kwargs.items()}
            return launch(device, images, *map(spread, rest), **named, apart=1)

        def alone(*args: Any, **kwargs: Any) -> Any:
            return launch(device, *args, **kwargs)

        return _one_by_one(device.xp, self.name, alone, images, device.array, rest, kwargs)


def _one_by_one(
    xp: Any,
    name: str,
    call: Callable[..., Any],
    images: Any,
    kind: Any,
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    if images.ndim == 0 or len(images) == 0:
        raise ValueError(f"batch: images must be at least one, got shape {images.shape}")

    def part(value: Any, i: int) -> Any:
        return value[i] if isinstance(value, kind) and value.shape == images.shape else value

    results = []
    for i, image in enumerate(images):
        named = {key: part(value, i) for key, value in kwargs.items()}
        results.append(call(image, *(part(value, i) for value in args), **named))
    out = kwargs.get("out")
    if out is None:
        return _stacked(xp, name, results)
    if not isinstance(results[0], tuple):
        return out
    _, *others = zip(*results, strict=True)
    return (out, *(_stacked(xp, name, list(each)) for each in others))


def _stacked(xp: Any, name: str, results: list[Any]) -> Any:
    if isinstance(results[0], tuple):
        return tuple(_stacked(xp, name, list(each)) for each in zip(*results, strict=True))
    arrays = [xp.asarray(result) for result in results]
    if len({array.shape for array in arrays}) > 1:
        raise ValueError(f"batch: the results of {name} have different shapes, they stay apart")
    return xp.stack(arrays)
