"""What graphs on grids and general ones share: they solve, copy and hold a core that does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from typing_extensions import Self


class FlowGraph:
    """A graph whose maximum flow is found by `_core`."""

    dtype: np.dtype[Any]
    _core: Any

    def maxflow(self) -> int | float:
        """Find the maximum flow, and with it the minimum cut; return its value.

        Returns
        -------
        flow : int or float
            Capacity of the minimum cut. A sum of integers beyond 2**63 wraps.

        Notes
        -----
        Stops within 0.2 s of Ctrl-C; called again it goes on from there.
        """
        self._core.maxflow()
        integer, floating = self._core.flow()
        return integer if self.dtype.kind == "i" else floating  # type: ignore[no-any-return]

    def copy(self) -> Self:
        """Return an independent copy, flow and search trees included."""
        return self.__copy__()

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other._core = self._core.copy()
        return other

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.__copy__()
