"""Labellings of least energy: many labels, each pixel's own costs and those of its neighbours."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks, _grid_arguments
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast._grid_arguments import grid_offsets
from medseg_fast.grid_graph import GridGraph

Labels = NDArray[np.int32]


def potts(n_labels: int, cost: float = 1) -> NDArray[Any]:
    """Return the pairwise costs of Potts's model: `cost` wherever two labels differ.

    Examples
    --------
    >>> potts(3, 2)
    array([[0, 2, 2],
           [2, 0, 2],
           [2, 2, 0]])
    """
    n = _checks.integer("potts", "n_labels", n_labels, 1)
    cost = _checks.number("potts", "cost", cost)
    return np.asarray(cost * (1 - np.eye(n, dtype=int)))


def truncated_linear(n_labels: int, slope: float, limit: float) -> NDArray[Any]:
    """Return pairwise costs ``min(slope * abs(a - b), limit)`` of ordered labels a and b.

    Examples
    --------
    >>> truncated_linear(4, 1, 2)
    array([[0, 1, 2, 2],
           [1, 0, 1, 2],
           [2, 1, 0, 1],
           [2, 2, 1, 0]])
    """
    op = "truncated_linear"
    label = np.arange(_checks.integer(op, "n_labels", n_labels, 1))
    slope, limit = _checks.number(op, "slope", slope), _checks.number(op, "limit", limit)
    return np.asarray(np.minimum(slope * np.abs(label - label[:, None]), limit))


def _result(unary: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    return tuple(unary.shape[:-1]), np.int32


_PARAMETERS = """
    Parameters
    ----------
    unary : array_like
        Costs of the labels of each pixel, the labels along the last axis: shape (..., L), one to
        three axes of pixels. Finite, may be negative.
    pairwise : array_like
        Costs of labels a and b of two neighbours, ``pairwise[a, b]``: shape (L, L), see `potts`
        and `truncated_linear`. {condition}
    max_cycles : int, optional
        Stop after so many rounds through all {steps}. Default: when a round changes nothing.
    labels : array_like of int, optional
        Where to begin. Default: each pixel's cheapest label.
    weights : scalar, array_like or sequence of these, optional
        What `pairwise` is multiplied by: one number or array of the image's shape for all
        neighbours, or a sequence of one for each of `GridGraph.offsets`, from each pixel to the
        one at pixel + offset. Not negative.
    connectivity : int, optional
        How many coordinates of neighbours may differ by one.

    Returns
    -------
    labels : ndarray of int32

    Raises
    ------
    TypeError
        If a dtype is not supported.
    ValueError
        If costs are not finite or break the condition, shapes do not fit, or a label is out of
        range.
"""


@operation(result=_result)
def alpha_expansion(
    unary: ArrayLike,
    pairwise: ArrayLike,
    max_cycles: int | None = None,
    labels: ArrayLike | None = None,
    *,
    weights: Any = 1,
    connectivity: int = 1,
) -> Labels:
    """Label an image at low energy by expansions: any pixels may take one label at once.

    {parameters}
    Notes
    -----
    One minimum cut for each label and round. The energy is at most twice the least one for Potts's
    model, and no expansion lowers it. Integers are exact, in int32 where that is wide enough;
    floats are float32 if no input is wider, else float64. A label is not tried again until
    something else has changed.

    Time and memory of a cut as for `GridGraph`, on all threads; 16 bytes per pixel more (32 for 64
    bits), and the unary costs.

    References
    ----------
    Y. Boykov, O. Veksler and R. Zabih (2001), "Fast approximate energy minimization via graph
    cuts", IEEE PAMI 23(11):1222-1239.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0, 1, 0, 4, 5, 9, 5, 4]])
    >>> unary = np.abs(image[..., None] - [0, 5, 9])
    >>> ms.alpha_expansion(unary, ms.potts(3, 3))
    array([[0, 0, 0, 1, 1, 1, 1, 1]], dtype=int32)
    """
    field = _Field("alpha_expansion", unary, pairwise, weights, connectivity)
    field.check_metric(triangle=True)
    stay = np.arange(field.count, dtype=np.int32)
    moves = [(stay, np.full_like(stay, alpha)) for alpha in range(field.count)]
    return field.moved(moves, max_cycles, labels)


@operation(result=_result)
def alpha_beta_swap(
    unary: ArrayLike,
    pairwise: ArrayLike,
    max_cycles: int | None = None,
    labels: ArrayLike | None = None,
    *,
    weights: Any = 1,
    connectivity: int = 1,
) -> Labels:
    """Label an image at low energy by swaps: any pixels of two labels may exchange them at once.

    {parameters}
    Notes
    -----
    One minimum cut for each pair of labels and round; else as `alpha_expansion`, which is faster
    where both apply, while this needs no triangle inequality.

    References
    ----------
    Y. Boykov, O. Veksler and R. Zabih (2001), "Fast approximate energy minimization via graph
    cuts", IEEE PAMI 23(11):1222-1239.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0, 1, 0, 4, 5, 9, 5, 4]])
    >>> unary = np.abs(image[..., None] - [0, 5, 9])
    >>> ms.alpha_beta_swap(unary, ms.potts(3, 3))
    array([[0, 0, 0, 1, 1, 1, 1, 1]], dtype=int32)
    """
    field = _Field("alpha_beta_swap", unary, pairwise, weights, connectivity)
    field.check_metric(triangle=False)
    moves = []
    for a, b in itertools.combinations(range(field.count), 2):
        stay, go = np.arange(field.count, dtype=np.int32), np.arange(field.count, dtype=np.int32)
        stay[b], go[a] = a, b
        moves.append((stay, go))
    return field.moved(moves, max_cycles, labels)


@operation(result=_result)
def icm(
    unary: ArrayLike,
    pairwise: ArrayLike,
    max_cycles: int | None = None,
    labels: ArrayLike | None = None,
    *,
    weights: Any = 1,
    connectivity: int = 1,
) -> Labels:
    """Lower the energy of a labelling pixel by pixel: iterated conditional modes.

    Fast, and stuck in the nearest local minimum: a baseline for `alpha_expansion`.

    {parameters}
    Notes
    -----
    Pixels are visited in raster order; each takes the cheapest label beside those its neighbours
    have at that moment, the lowest of equally cheap ones, and keeps its own if that is as cheap.
    Time O(n L) for each neighbour and round, on one thread; memory: the result, and the unary costs
    if these have to be converted.

    References
    ----------
    J. Besag (1986), "On the statistical analysis of dirty pictures", J. Royal Stat. Soc. B
    48(3):259-302.

    Examples
    --------
    >>> import numpy as np
    >>> import medseg_fast as ms
    >>> image = np.array([[0, 1, 0, 4, 5, 9, 5, 4]])
    >>> unary = np.abs(image[..., None] - [0, 5, 9])
    >>> ms.icm(unary, ms.potts(3, 3))
    array([[0, 0, 0, 1, 1, 1, 1, 1]], dtype=int32)
    """
    field = _Field("icm", unary, pairwise, weights, connectivity)
    current = field.start(labels)
    offsets, given = [field.full(o) for o in field.offsets], field.weights
    for _ in _cycles("icm", max_cycles):
        changed = core.icm_sweep(field.unary, field.pairwise, offsets, given, field.volume(current))
        if not changed:
            break
    return current


def labelling_energy(
    unary: ArrayLike,
    pairwise: ArrayLike,
    labels: ArrayLike,
    *,
    weights: Any = 1,
    connectivity: int = 1,
) -> int | float:
    """Return the energy of a labelling, as `alpha_expansion` lowers it.

    Parameters
    ----------
    unary, pairwise, weights, connectivity
        As for `alpha_expansion`.
    labels : array_like of int

    Returns
    -------
    energy : int or float
        int if all costs are.

    Examples
    --------
    >>> labelling_energy([[0, 5], [5, 1]], potts(2, 3), [0, 1])
    4
    """
    field = _Field("labelling_energy", unary, pairwise, weights, connectivity)
    return field.energy(field.start(labels))


def _cycles(op: str, max_cycles: int | None) -> Any:
    if max_cycles is None:
        return itertools.count()
    return range(_checks.integer(op, "max_cycles", max_cycles, 0))


class _Field:
    """A Markov random field: costs in one type, and where neighbours are."""

    def __init__(self, op: str, unary: Any, pairwise: Any, weights: Any, connectivity: int) -> None:
        self.op = op
        single = self._finite("unary", unary)
        if not 2 <= single.ndim <= 4 or single.shape[-1] == 0:
            raise ValueError(
                f"{op}: unary must have one to three axes and one of labels, got {single.shape}"
            )
        *shape, self.count = single.shape
        self.shape = tuple(shape)
        pairs = self._finite("pairwise", pairwise)
        if pairs.shape != (self.count, self.count):
            raise ValueError(
                f"{op}: pairwise must have shape {(self.count, self.count)}, got {pairs.shape}"
            )
        connectivity = _checks.integer(op, "connectivity", connectivity, 1, len(shape))
        self.connectivity = connectivity
        self.offsets = grid_offsets(len(shape), connectivity)
        several = isinstance(weights, (list, tuple))
        given = [self._finite("weights", w) for w in (weights if several else [weights])]
        given = given if several else given * len(self.offsets)
        if len(given) != len(self.offsets) or any(w.shape not in ((), self.shape) for w in given):
            raise ValueError(
                f"{op}: weights must be numbers or arrays of shape {self.shape}, one for all or "
                f"for each of {len(self.offsets)} offsets"
            )
        if any(w.size and w.min() < 0 for w in given):
            raise ValueError(f"{op}: weights must not be negative")
        self.dtype = self._computed_in(single, pairs, given)
        cast = _grid_arguments.cast
        self.unary = self.volume(cast(single, self.dtype), 1)
        self.pairwise = cast(pairs, self.dtype)
        self.weights = [
            w if w.ndim == 0 else self.volume(w) for w in (cast(w, self.dtype) for w in given)
        ]

    def _finite(self, name: str, value: Any) -> NDArray[Any]:
        array = _grid_arguments.numbers(self.op, name, value)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"{self.op}: {name} must be finite")
        return array

    def _computed_in(self, *given: Any) -> np.dtype[Any]:
        unary, pairs, weights = given
        arrays = [unary, pairs, *weights]
        floats = [a for a in arrays if a.dtype.kind == "f"]
        if floats:
            narrow = all(a.dtype.itemsize <= 4 for a in floats)
            narrow &= all(_most(a) <= 2**24 for a in arrays if a.dtype.kind != "f")
            return np.dtype(np.float32 if narrow else np.float64)
        heaviest = sum(max(_most(w), 1) for w in weights)
        bound = 2 * _most(unary) + 8 * _most(pairs) * heaviest
        for dtype in _grid_arguments.DTYPES[:2]:
            if bound <= _grid_arguments.limit(dtype):
                return dtype
        raise ValueError(f"{self.op}: costs must sum up to numbers of int64, got up to {bound:.6g}")

    def volume(self, array: NDArray[Any], labels: int = 0) -> NDArray[Any]:
        """The same memory with three axes of pixels."""
        return array.reshape((1,) * (3 + labels - array.ndim) + array.shape)

    def full(self, offset: tuple[int, ...]) -> list[int]:
        return [0] * (3 - len(offset)) + list(offset)

    def check_metric(self, *, triangle: bool) -> None:
        """Refuse pairwise costs for which a move is no minimum cut."""
        v = self.pairwise
        slack = 1e-6 * float(_most(v)) if v.dtype.kind == "f" else 0
        same = np.diag(v)
        if triangle:
            # v[a, b] + v[x, x] <= v[a, x] + v[x, b]
            bad = any((v + v[x, x] > v[:, x, None] + v[x] + slack).any() for x in range(self.count))
            if bad:
                raise ValueError(
                    f"{self.op}: pairwise must obey the triangle inequality; alpha_beta_swap does "
                    "without"
                )
        elif (same[:, None] + same > v + v.T + slack).any():
            raise ValueError(f"{self.op}: pairwise must not be less for two labels than for one")

    def start(self, labels: Any) -> Labels:
        if labels is None:
            cheapest: Labels = self.unary.argmin(-1).astype(np.int32)
            return cheapest.reshape(self.shape)
        given = np.asarray(labels)
        if given.dtype.kind not in "iu":
            raise TypeError(f"{self.op}: labels must be integers, got {given.dtype}")
        if given.shape != self.shape:
            raise ValueError(f"{self.op}: labels must have shape {self.shape}, got {given.shape}")
        if given.size and (given.min() < 0 or given.max() >= self.count):
            raise ValueError(f"{self.op}: labels must be from 0 to {self.count - 1}")
        return given.astype(np.int32, order="C")

    def moved(
        self, moves: Sequence[tuple[Labels, Labels]], max_cycles: int | None, labels: Any
    ) -> Labels:
        """Make all moves in turn until none changes anything, or the energy no longer falls."""
        current = self.start(labels)
        energy = self.energy(current)
        untried = len(moves)
        for _ in _cycles(self.op, max_cycles):
            before = current.copy()
            for move in moves:
                if not untried:
                    break
                untried = len(moves) - 1 if self._move(current, *move) else untried - 1
            if not untried:
                break
            now = self.energy(current)
            if now >= energy:  # moves between equal labellings, or rounding
                return current if now == energy else before
            energy = now
        return current

    def _move(self, current: Labels, stay: Labels, go: Labels) -> int:
        labels = self.volume(current)
        gain = _checks.empty(labels.shape, self.dtype)
        forth = _checks.empty(labels.shape, self.dtype)
        core.move_unary(self.unary, labels, stay, go, gain)
        graph = GridGraph(self.shape, self.connectivity, self.dtype)
        zero = np.zeros((), self.dtype)
        for k, (offset, weight) in enumerate(zip(self.offsets, self.weights, strict=True)):
            core.move_pairs(labels, self.full(offset), self.pairwise, weight, stay, go, gain, forth)
            graph._core.add_grid_edges(2 * k, forth.reshape(self.shape), zero)
        gain = gain.reshape(self.shape)
        graph._core.add_terminal(gain, np.zeros_like(gain), None)
        graph.maxflow()
        return core.move_labels(labels, graph.segments(), stay, go)  # type: ignore[no-any-return]

    def energy(self, labels: Labels) -> int | float:
        wide = np.int64 if self.dtype.kind == "i" else np.float64
        own = np.take_along_axis(self.unary.reshape(*self.shape, self.count), labels[..., None], -1)
        total = own.sum(dtype=wide)
        for offset, weight in zip(self.offsets, self.weights, strict=True):
            here, there = _grid_arguments.pairs(self.shape, offset)
            costs = self.pairwise[labels[here], labels[there]]
            w = weight if weight.ndim == 0 else weight.reshape(self.shape)[here]
            total += (costs * w).sum(dtype=wide)
        return total.item()  # type: ignore[no-any-return]


def _most(array: NDArray[Any]) -> float:
    """The largest magnitude."""
    if array.size == 0:
        return 0.0
    return max(abs(float(array.max())), abs(float(array.min())))


for _function, _condition, _steps in (
    (alpha_expansion, "A metric.", "labels"),
    (alpha_beta_swap, "Least where labels are equal.", "pairs of labels"),
    (icm, "Any.", "pixels"),
):
    assert _function.__doc__ is not None
    _text = _PARAMETERS.strip("\n").format(condition=_condition, steps=_steps)
    _function.__doc__ = _function.__doc__.replace("    {parameters}\n", _text + "\n")
