"""Paths of least cost through an array of costs."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_paths
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation

_EVERY = np.iinfo(np.int64).max  # more pixels than there are


def _start(
    op: str,
    costs: NDArray[Any],
    starts: NDArray[np.int64],
    fully_connected: bool,
    geometric: bool,
    spacing: Any,
    max_step_cost: float | None = None,
) -> Any:
    """A search that has begun at `starts`."""
    offsets = _grid_paths.steps(costs.ndim, costs.ndim if fully_connected else 1)
    lengths = _grid_paths.lengths(offsets, _checks.spacing(op, spacing, costs.ndim))
    most = _most(op, max_step_cost)
    search = core.search_costs(costs, offsets.tolist(), lengths, bool(geometric), most)
    search.start(starts, None)
    return search


def _most(op: str, max_step_cost: Any) -> float:
    if max_step_cost is None:
        return math.inf
    return float(_checks.number(op, "max_step_cost", max_step_cost))


def _run(search: Any, ends: NDArray[np.int64] | None, count: int, most: int = _EVERY) -> None:
    search.run(ends, count, most, math.inf, math.inf)


@operation(result=None)
def route_through_array(
    array: ArrayLike,
    start: Iterable[int],
    end: Iterable[int],
    fully_connected: bool = True,
    geometric: bool = True,
) -> tuple[list[tuple[int, ...]], np.float64]:
    """Find the path of least cost from one pixel to another.

    The result is that of ``skimage.graph.route_through_array``, ties included.

    Parameters
    ----------
    array : array_like
        Costs; at least 1D, bool, integer or float. A path does not enter pixels whose cost is
        negative, infinite or NaN.
    start, end : sequence of int
        Index of the first and of the last pixel; negative numbers count from the end.
    fully_connected : bool, optional
        Whether diagonal steps are allowed.
    geometric : bool, optional
        True: a step costs the mean of the costs of both its pixels times its length. False: a path
        costs the sum of its pixels.

    Returns
    -------
    path : list of tuple of int
        Indices from `start` to `end`.
    cost : np.float64
        Cost of the path.

    Raises
    ------
    TypeError
        If the dtype is not supported or an index is not one of integers.
    ValueError
        If `start` or `end` lies outside the array, or no path leads to `end`.

    Notes
    -----
    Time O(n log n) at most for the n pixels that cost no more than `end`, in one thread; the search
    stops there. Memory: 18 bytes per pixel (26 if the costs are integers of more than 16 bits or
    float64), 24 for each pixel that waits at the front. scikit-image takes NaN for a cost and
    returns NaN costs; here NaN is a wall.

    References
    ----------
    .. [1] E. W. Dijkstra, "A note on two problems in connexion with graphs", Numerische Mathematik
       1 (1959) 269-271.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> ms.route_through_array([[1, 3], [10, 12]], (0, 0), (1, 1), fully_connected=False)
    ([(0, 0), (0, 1), (1, 1)], np.float64(9.5))
    """
    op = "route_through_array"
    costs = _grid_paths.image(op, array, "array")
    first = _grid_paths.point(op, "start", start, costs.shape)
    last = _grid_paths.point(op, "end", end, costs.shape)
    origin = _grid_paths.flat([first], costs.shape)
    search = _start(op, costs, origin, fully_connected, geometric, None)
    target = _grid_paths.flat([last], costs.shape)
    _run(search, target, 1)
    path = search.path(int(target[0])).reshape(-1, costs.ndim)
    if not len(path):
        raise ValueError(f"{op}: no path leads to end {last}")
    return [tuple(index) for index in path.tolist()], np.float64(search.cost(int(target[0])))


@operation(result=None)
def minimum_cost_path(
    costs: ArrayLike,
    starts: Any,
    ends: Any,
    *,
    fully_connected: bool = True,
    geometric: bool = True,
    spacing: Sequence[float] | None = None,
    max_step_cost: float | None = None,
) -> tuple[NDArray[np.int64], float]:
    """Find the path of least cost from any of some pixels to any of others.

    Parameters
    ----------
    costs : array_like
        At least 1D; bool, integer or float. A path does not enter pixels whose cost is negative,
        infinite or NaN.
    starts, ends : index, sequence of indices or mask
        Where a path may start and end: one index, several, or a bool array of the shape of `costs`.
    fully_connected, geometric : bool, optional
        As for `route_through_array`.
    spacing : sequence of float, optional
        Voxel size in mm along each axis, for the lengths of steps; 1 by default.
    max_step_cost : float, optional
        Pixels that cost more are not entered either.

    Returns
    -------
    path : ndarray of int64, shape (pixels, ndim)
        From one of `starts` to one of `ends`.
    cost : float
        Cost of the path.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If an index lies outside, an argument does not fit, or no path leads to any of `ends`.

    Notes
    -----
    Ties, time and memory as for `route_through_array`.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> path, cost = ms.minimum_cost_path([1, 9, 1, 1, 5], starts=[0, 3], ends=4)
    >>> path.ravel().tolist(), cost
    ([3, 4], 3.0)
    """
    op = "minimum_cost_path"
    array = _grid_paths.image(op, costs, "costs")
    first, last = _seeds(op, "starts", starts, array), _seeds(op, "ends", ends, array)
    search = _start(op, array, first, fully_connected, geometric, spacing, max_step_cost)
    _run(search, last, 1)
    for end in last.tolist():
        if (cost := search.cost(end)) < math.inf:
            return search.path(end).reshape(-1, array.ndim), cost
    raise ValueError(f"{op}: no path leads to any of ends")


def _minimum_costs_like(costs: Any, /, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return (costs.shape, np.float64), (costs.shape, np.int16)


@operation(result=_minimum_costs_like)
def minimum_costs(
    costs: ArrayLike,
    starts: Any,
    ends: Any = None,
    *,
    fully_connected: bool = True,
    geometric: bool = True,
    spacing: Sequence[float] | None = None,
    max_step_cost: float | None = None,
    out: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
    """Least costs of the paths from some pixels to all others, and the steps of these paths.

    The result is that of ``skimage.graph.MCP_Geometric(costs).find_costs(starts, ends)``, or of
    ``skimage.graph.MCP`` for ``geometric=False``; `MCP_Geometric` and `MCP` do the same with
    scikit-image's call.

    Parameters
    ----------
    costs, fully_connected, geometric, spacing, max_step_cost
        As for `minimum_cost_path`.
    starts, ends : index, sequence of indices or mask
        Where paths start; and where the search stops once it has reached all of `ends`.
    out : ndarray of float64, optional
        Array of the shape of `costs` that receives the costs.

    Returns
    -------
    cumulative_costs : ndarray of float64
        Same shape as `costs`; inf where no path leads or the search did not come.
    steps : ndarray of int16
        Which step leads to a pixel: the place of its offset among those of the neighbours in raster
        order (the offset is ``(-1, -1)`` for 0 in 2D: from the pixel below to the right); -1 at
        `starts`, -2 where no path leads.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If an index lies outside or an argument does not fit.

    Notes
    -----
    Time O(n log n) at most, in one thread. Memory: that of `route_through_array`, and 10 bytes per
    pixel for the results.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> costs, steps = ms.minimum_costs([1, 3, 1], starts=0, geometric=False)
    >>> costs.tolist(), steps.tolist()
    ([1.0, 4.0, 5.0], [-1, 1, 1])
    """
    op = "minimum_costs"
    array = _grid_paths.image(op, costs, "costs")
    first = _seeds(op, "starts", starts, array)
    last = None if ends is None else _seeds(op, "ends", ends, array)
    cumulative = _checks.output(op, out, array.shape, np.float64)
    search = _start(op, array, first, fully_connected, geometric, spacing, max_step_cost)
    _run(search, last, -1 if last is None else len(last))
    written = _checks.scratch(cumulative)
    search.copy_costs(written)
    steps = _checks.empty(array.shape, np.int16)
    search.copy_steps(steps)
    return _checks.finish(cumulative, written), steps


def _seeds(op: str, name: str, value: Any, array: NDArray[Any]) -> NDArray[np.int64]:
    """Distinct flat indices, in the order given."""
    found = _grid_paths.seeds(op, name, value, array)
    return found[np.sort(np.unique(found, return_index=True)[1])]


class MCP:
    """Paths of least cost, where a path costs the sum of its pixels.

    Has the methods and results of ``skimage.graph.MCP``, ties included.

    Parameters
    ----------
    costs : array_like
        At least 1D; bool, integer or float. Paths do not enter pixels whose cost is negative,
        infinite or NaN. It is copied.
    offsets : array_like of int, optional
        The steps that paths may take, shape (steps, ndim); without it those to the neighbours.
    fully_connected : bool, optional
        Whether diagonal neighbours are among these.
    sampling : sequence of float, optional
        Voxel size along each axis, for the lengths of steps; 1 by default.

    Attributes
    ----------
    offsets : ndarray of int8, shape (steps, ndim)
        The steps, which `find_costs` numbers.

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If `offsets` or `sampling` does not fit.

    Notes
    -----
    Memory: 18 bytes per pixel (26 if the costs are integers of more than 16 bits or float64).
    `goal_reached` and other hooks of scikit-image's class for subclasses do not exist.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> mcp = ms.MCP([[1, 9, 1], [1, 1, 1]])
    >>> costs, _ = mcp.find_costs([(0, 0)])
    >>> mcp.traceback((0, 2)), float(costs[0, 2])
    ([(0, 0), (1, 1), (0, 2)], 3.0)
    """

    _geometric = False

    def __init__(
        self,
        costs: ArrayLike,
        offsets: ArrayLike | None = None,
        fully_connected: bool = True,
        sampling: Sequence[float] | None = None,
    ) -> None:
        op = type(self).__name__
        self._costs = _grid_paths.image(op, costs, "costs")
        ndim = self._costs.ndim
        if offsets is None:
            steps = _grid_paths.steps(ndim, ndim if fully_connected else 1)
        else:
            given = np.asarray(offsets)
            if given.dtype.kind not in "ui":
                raise TypeError(f"{op}: offsets must be integers, got {given.dtype}")
            if given.ndim != 2 or given.shape[1] != ndim or not 0 < len(given) < 1 << 15:
                raise ValueError(
                    f"{op}: offsets must have shape (steps, {ndim}), got {given.shape}"
                )
            steps = given.astype(np.int64)
            reach = 1 if self._geometric else 127
            if np.abs(steps).max() > reach:
                raise ValueError(f"{op}: offsets must be from {-reach} to {reach}")
        self.offsets = steps.astype(np.int8)
        self._lengths = _grid_paths.lengths(steps, _checks.spacing(op, sampling, ndim))
        self._most = math.inf
        self._reset()

    def _reset(self) -> None:
        """Forget what `find_costs` found."""
        self._search = core.search_costs(
            self._costs, self.offsets.tolist(), self._lengths, self._geometric, self._most
        )
        self._found = False

    def find_costs(
        self,
        starts: Iterable[Iterable[int]],
        ends: Iterable[Iterable[int]] | None = None,
        find_all_ends: bool = True,
        max_coverage: float = 1.0,
        max_cumulative_cost: Any = None,
        max_cost: float | None = None,
        *,
        max_step_cost: float | None = None,
    ) -> tuple[NDArray[np.float64], NDArray[np.int16]]:
        """Find the paths of least cost from the nearest of some pixels.

        Parameters
        ----------
        starts, ends : sequence of indices
            Where paths start; and where the search may stop.
        find_all_ends : bool, optional
            Whether it stops at the last of `ends`, or at the first.
        max_coverage : float, optional
            Share of the pixels after which it stops.
        max_cumulative_cost : optional
            Deprecated, without effect, as in scikit-image.
        max_cost : float, optional
            Deprecated name of `max_step_cost`.
        max_step_cost : float, optional
            Pixels that cost more are not entered.

        Returns
        -------
        cumulative_costs : ndarray of float64
            Cost of the path to each pixel; inf where the search did not come.
        traceback : ndarray of int16
            The step to each pixel, an index into `offsets`; -1 at `starts`, -2 where no path leads.

        Raises
        ------
        ValueError
            If there is no start or an index lies outside.
        """
        op = f"{type(self).__name__}.find_costs"
        shape = self._costs.shape
        first = _grid_paths.points(op, "starts", starts, shape)
        if not first:
            raise ValueError(f"{op}: starts must hold at least one index")
        last = None if ends is None else _grid_paths.points(op, "ends", ends, shape)
        for name, value, instead in (
            ("max_cumulative_cost", max_cumulative_cost, "do not use"),
            ("max_cost", max_cost, "use the parameter `max_step_cost` instead of"),
        ):
            if value is not None:
                warnings.warn(
                    f"`{name}` is deprecated; {instead} the parameter `{name}`.",
                    FutureWarning,
                    stacklevel=2,
                )
        most = _most(op, max_cost if max_step_cost is None else max_step_cost)
        if most != self._most:
            self._most = most
            self._reset()
        coverage = float(_checks.number(op, "max_coverage", max_coverage))
        self._search.start(_grid_paths.flat(first, shape), None)
        if coverage > 0:
            _run(
                self._search,
                None if last is None else _grid_paths.flat(last, shape),
                0 if last is None else len(last) if find_all_ends else min(1, len(last)),
                int(min(coverage * self._costs.size, _EVERY)),
            )
        self._found = True
        costs, steps = _checks.empty(shape, np.float64), _checks.empty(shape, np.int16)
        self._search.copy_costs(costs)
        self._search.copy_steps(steps)
        return costs, steps

    def traceback(self, end: Iterable[int]) -> list[tuple[int, ...]]:
        """Return the path to a pixel that the last `find_costs` reached.

        Parameters
        ----------
        end : sequence of int
            Index of the pixel.

        Returns
        -------
        path : list of tuple of int
            Indices from a start to `end`.

        Raises
        ------
        ValueError
            If `end` lies outside or no path leads there.
        RuntimeError
            Before `find_costs`.
        """
        op = f"{type(self).__name__}.traceback"
        if not self._found:
            raise RuntimeError(f"{op}: find_costs must be called first")
        index = _grid_paths.point(op, "end", end, self._costs.shape)
        flat = _grid_paths.flat([index], self._costs.shape)
        path = self._search.path(int(flat[0])).reshape(-1, self._costs.ndim)
        if not len(path):
            raise ValueError(f"{op}: no path leads to end {index}")
        return [tuple(each) for each in path.tolist()]


class MCP_Geometric(MCP):
    """Paths of least cost, where a step costs the mean of its pixels' costs times its length.

    Has the methods and results of ``skimage.graph.MCP_Geometric``, ties included; all else is as
    for `MCP`. Components of `offsets` must be -1, 0 or 1.

    Examples
    --------
    >>> import medseg_fast as ms
    >>> mcp = ms.MCP_Geometric([1, 3, 1])
    >>> mcp.find_costs([[0]])[0].tolist()
    [0.0, 2.0, 4.0]
    """

    _geometric = True
