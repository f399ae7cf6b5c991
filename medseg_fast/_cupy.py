"""CuPy arrays: no GPU kernel yet, and no copy to the host behind the caller's back."""

from __future__ import annotations

from typing import Any

from medseg_fast._dispatch import Operation


def call(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise NotImplementedError(
        f"{op.name}: no implementation for CuPy arrays; pass image.get() to run it on the CPU"
    )
