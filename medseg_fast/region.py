"""Region growing by interval: everything connected to a seed whose values lie in a range."""

from __future__ import annotations


class LeakWarning(UserWarning):
    """Growth was stopped early because the region exceeded a limit, which suggests a leak."""
