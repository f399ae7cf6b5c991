"""What differs where several processes train one network (torch.distributed)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn


class World(NamedTuple):
    """Which of how many processes this is; 0 of 1 without torch.distributed."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        """Whether this process validates and writes."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network, with gradients averaged over all processes."""
        if self.size == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def share(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first: statistics of norms follow own batches."""
        if self.size > 1:
            for buffer in network.buffers():
                distributed.broadcast(buffer, src=0)

    def mean(self, value: float) -> float:
        """Over all processes."""
        if self.size == 1:
            return value
        total = self._tensor(value)
        distributed.all_reduce(total)
        return float(total) / self.size

    def told(self, value: Any) -> Any:
        """What the first process has."""
        if self.size == 1:
            return value
        box = [value]
        distributed.broadcast_object_list(box, src=0)
        return box[0]

    def _tensor(self, value: float) -> Tensor:
        device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
        return torch.tensor(value, dtype=torch.float64, device=device)


def world() -> World:
    """The processes that the caller's ``torch.distributed.init_process_group`` has joined."""
    if distributed.is_available() and distributed.is_initialized():
        return World(distributed.get_rank(), distributed.get_world_size())
    return World(0, 1)
