"""A function of GPU arrays as one CUDA graph: recorded once, launched again for every input."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from medseg_fast._dispatch import library_of_gpu


def capture(function: Callable[..., Any], /, *examples: Any) -> Callable[..., Any]:
    """Record what a function launches on a GPU, to launch it all at once for further inputs.

    What a launch costs the host is paid for the whole graph instead of for each of its kernels:
    for pipelines of many short kernels, as on a stream of frames, and for small networks.

    Parameters
    ----------
    function : callable
        Takes arrays and returns an array, or a tuple or list of them: a pipeline of this package's
        operations, or a network.
    *examples : array
        Arrays like those to come, in shape, dtype and place: CuPy arrays, or CUDA tensors.

    Returns
    -------
    run : callable
        Takes as many arrays as there are examples, of their shapes and dtypes, on the GPU or on the
        host, and returns what `function` would. **The arrays that it returns are the graph's own
        and are overwritten by its next run**: copy what is to last. On one stream at a time.

    Raises
    ------
    RuntimeError
        If `function` does what a graph cannot hold: it waits for the device (see Notes).
    TypeError
        If there is no example, or examples are of different libraries.

    Notes
    -----
    The function is called a few times before it is recorded, which compiles its kernels and brings
    what they need of constants to the device. Memory that it takes while it is recorded stays the
    graph's, so nothing is allocated when the graph runs. CuPy's functions go through CuPy's stream
    capture, CUDA tensors through PyTorch's, in which no gradient is recorded.

    Whatever depends on data on the host is fixed by the recording: plain numbers among the
    operations' arguments, shapes, branches. Operations that wait for the device cannot be recorded:
    `threshold_otsu` and the others that choose from a histogram or from means, `watershed`,
    `maxflow_grid`, the region growing functions, `fill_holes` of floats, and those whose results'
    sizes or values the host asks for: `nms`, `soft_nms`, ``local_minima(indices=True)``,
    ``label(return_num=True)``.

    NumPy arrays and tensors on the CPU have no graph: the function is called.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> frame = np.zeros((4, 5), np.uint8)
    >>> outline = ms.capture(lambda frame: ms.sobel(ms.gaussian(frame, 1.5)) > 0.1, frame)
    >>> outline(frame).any()
    np.False_
    """
    if not examples:
        raise TypeError("capture: examples must be at least one array")
    libraries = {library_of_gpu(example) for example in examples}
    if len(libraries) > 1:
        kinds = ", ".join(type(example).__qualname__ for example in examples)
        raise TypeError(
            f"capture: examples must be arrays of one library in one place, got {kinds}"
        )
    (library,) = libraries
    if library is None:
        return function
    made: Callable[..., Any] = import_module(f"medseg_fast._{library}_graph").Graph(
        function, examples
    )
    return made


def refuse(error: Exception) -> RuntimeError:
    """What to raise where recording failed."""
    return RuntimeError(
        f"capture: the function does what a CUDA graph cannot hold, such as waiting for the device "
        f"({error})"
    )


def check(given: Any, example: Any) -> None:
    """Raise ValueError unless an input has the example's shape and dtype."""
    if tuple(given.shape) != tuple(example.shape) or given.dtype != example.dtype:
        raise ValueError(
            f"capture: inputs must be like the examples, {tuple(example.shape)} of "
            f"{example.dtype}, got {tuple(given.shape)} of {given.dtype}"
        )


def check_count(given: tuple[Any, ...], examples: list[Any]) -> None:
    """Raise TypeError unless there are as many inputs as examples."""
    if len(given) != len(examples):
        raise TypeError(f"capture: the graph takes {len(examples)} arrays, got {len(given)}")


WARM = 3  # calls before recording: after two, pools have seen what the third asks of them
HOST = np.ndarray  # what may be given for an array on the device
