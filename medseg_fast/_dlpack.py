"""Arrays of other libraries of the array API standard (JAX, ...): in and out by DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from medseg_fast._dispatch import Operation

_CPU = 1  # DLDeviceType of the DLPack header


def call(op: Operation, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    namespace = None

    def to_numpy(value: Any) -> Any:
        nonlocal namespace
        if isinstance(value, np.ndarray) or not hasattr(value, "__array_namespace__"):
            return value
        device, _ = value.__dlpack_device__()
        if int(device) != _CPU:
            raise NotImplementedError(
                f"{op.name}: no implementation for {type(value).__qualname__} on {value.device}"
            )
        namespace = value.__array_namespace__()
        return np.from_dlpack(value)

    result = op.body(*map(to_numpy, args), **{k: to_numpy(v) for k, v in kwargs.items()})
    return result if namespace is None else _back(result, namespace)


def _back(value: Any, namespace: Any) -> Any:
    if isinstance(value, np.ndarray):
        return namespace.from_dlpack(value)
    return tuple(_back(each, namespace) for each in value) if isinstance(value, tuple) else value
