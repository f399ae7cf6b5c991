"""PyTorch tensors: seen as NumPy arrays without a copy; results come back as tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from medseg_fast._dispatch import Operation


def call(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    def to_numpy(value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        if value.device.type != "cpu":
            raise NotImplementedError(
                f"{op.name}: no implementation for tensors on {value.device}; "
                "pass image.cpu() to run it on the CPU"
            )
        return value.detach().numpy()

    return _back(op.body(*map(to_numpy, args), **{k: to_numpy(v) for k, v in kwargs.items()}))


def _back(value: Any) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        return torch.from_numpy(np.asarray(value))
    return tuple(map(_back, value)) if isinstance(value, tuple) else value
