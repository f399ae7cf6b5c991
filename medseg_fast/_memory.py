"""How much freed memory is kept for the next results."""

from __future__ import annotations

import os

from medseg_fast import _checks
from medseg_fast._cpu import core

_VARIABLE = "MEDSEG_FAST_KEPT_MEMORY"
_DEFAULT = 256 << 20
_MOST = 1 << 62


def set_kept_memory(n_bytes: int) -> None:
    """Set how many bytes of freed memory are kept for the next results, for the whole process.

    A large result in fresh memory costs the system's clearing of it, up to half of the time of a
    fast operation; in memory that an earlier result left when it was freed it does not. The peaks
    of memory that functions name are without what is kept.

    Parameters
    ----------
    n_bytes : int
        At first 256 MiB. 0 frees what is kept and keeps nothing. A result of more than this is
        fresh each time.

    Raises
    ------
    TypeError, ValueError
        If `n_bytes` is not an integer from 0.
    """
    core.set_kept_limit(_checks.integer("set_kept_memory", "n_bytes", n_bytes, 0, _MOST))


def get_kept_memory() -> int:
    """Return how many bytes of freed memory may be kept."""
    return int(core.kept_limit())


def _from_environment() -> int:
    text = os.environ.get(_VARIABLE)
    if not text:
        return _DEFAULT
    if not text.isdecimal() or int(text) > _MOST:
        raise ImportError(f"{_VARIABLE}={text!r}: expected a number of bytes from 0")
    return int(text)


core.set_kept_limit(_from_environment())
