"""Parts of the cases for cross-validation."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from medseg_fast import _checks


def folds(
    names: int | Sequence[Hashable], count: int = 5, *, seed: int = 0
) -> list[tuple[list[int], list[int]]]:
    """Divide cases for cross-validation.

    Parameters
    ----------
    names : int or sequence
        How many cases; or for each the name of its patient: cases of one stay together.
    count : int, optional
        Number of folds, at most that of patients.
    seed : int, optional
        Of the order in which patients are dealt.

    Returns
    -------
    folds : list of (train, validation)
        Indices of cases, ascending; each case is in one validation part.

    Examples
    --------
    >>> from medseg_fast import nn
    >>> nn.folds(["anna", "anna", "bert", "carl"], 3)[0]
    ([0, 1, 2], [3])
    """
    each = list(range(names)) if isinstance(names, int) else list(names)
    patients = list(dict.fromkeys(each))
    count = _checks.integer("folds", "count", count, 2, len(patients))
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {patients[p]: place % count for place, p in enumerate(order)}
    parts = []
    for fold in range(count):
        held = [i for i, name in enumerate(each) if fold_of[name] == fold]
        parts.append(([i for i in range(len(each)) if fold_of[each[i]] != fold], held))
    return parts
