"""Modules of torch, and other callables of tensors, on windows: see `_runners`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medseg_fast.nn._lenet import LeNet5, to_fully_convolutional
from medseg_fast.nn._modes import evaluated
from medseg_fast.nn._runners import Runner

_STEP = 32  # usual networks halve five times at most


class ModuleRunner(Runner):
    """Runs where the module's weights are, in evaluation mode."""

    def __init__(self, model: Callable[[Tensor], Any], rank: int) -> None:
        super().__init__()
        self.metadata = getattr(model, "metadata", None) or {}
        if isinstance(model, LeNet5):  # the patch around every pixel
            model = to_fully_convolutional(model).eval()
        self.model = model
        parameters = list(model.parameters()) if isinstance(model, nn.Module) else []
        self.dtype = parameters[0].dtype if parameters else torch.float32
        self.device = parameters[0].device if parameters else torch.device("cpu")
        self.pixels = np.float64 if self.dtype == torch.float64 else np.float32
        first: Any = None
        if isinstance(model, nn.Module):
            kinds = (nn.Conv2d, nn.Conv3d)
            first = next((m for m in model.modules() if isinstance(m, kinds)), None)
        default = 3 if isinstance(first, nn.Conv3d) else 2 if first is not None else min(rank, 3)
        self.ndim = getattr(model, "ndim", default)
        self.channels = getattr(model, "in_channels", first.in_channels if first else 1)
        # Ours say which sizes they take and what becomes of them; others take what they are given.
        self.sizes: Callable[[int], tuple[int, int]] | None = getattr(model, "sizes", None)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Evaluation mode, without gradients."""
        model = self.model
        mode = evaluated(model) if isinstance(model, nn.Module) else nullcontext()
        with mode, torch.inference_mode():
            yield

    def window(self, length: int, size: int, axis: int) -> tuple[int, int]:
        """As large as asked for, or as the image if that is smaller."""
        if self.sizes is None:
            given = min(length, -(-size // _STEP) * _STEP)
            return given, given
        given, answer = self.sizes(length)
        return self.sizes(min(length, size + given - answer))

    def expected(self, size: tuple[int, ...]) -> tuple[int, ...]:
        """As the network says, or that of the windows."""
        return size if self.sizes is None else tuple(self.sizes(n)[1] for n in size)

    def given(self, windows: NDArray[Any]) -> Tensor:
        """On the weights' device, in their type."""
        return torch.from_numpy(windows).to(self.device, self.dtype)

    def answer(self, windows: Tensor) -> Any:
        """The module's."""
        return self.model(windows)
