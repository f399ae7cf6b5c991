"""A module in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluated(model: nn.Module) -> Iterator[None]:
    """Put a module and all inside into evaluation mode; afterwards each has the mode it had."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        model.train(modes[model])  # of some modules it does more than switch
        for module, training in modes.items():
            module.training = training
