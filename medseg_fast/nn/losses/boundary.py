"""The loss of distances to the true boundary."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from medseg_fast.distance import signed_distance
from medseg_fast.nn.losses._labelled import Labelled, Loss


class BoundaryLoss(Loss):
    """Boundary loss: the mean of ``p phi``, phi the signed distance to the class's true boundary.

    phi is negative inside, so a prediction is drawn to the region and pushed off what is far from
    it. The gradient has no bound below and an empty prediction is a local minimum: add it to a loss
    of regions (`CombinedLoss`), with a weight that grows.

    Parameters
    ----------
    spacing : sequence of float, optional
        Voxel size in mm along each axis; distances are in mm then, else in voxels.
    background : bool, optional
        Whether class 0 of several counts. The paper takes the foreground alone.
    ignore_index : int or None, optional
        Label of voxels that count for nothing; distances take them as other classes.

    Notes
    -----
    A class that an image does not have, or that fills it, has no boundary: it counts as 0.
    Distances are those of `medseg_fast.signed_distance`, on all threads: no voxel is at 0, the
    surface lies half way between voxels. The paper's code has a voxel less inside. `distances`
    gives them for a target that is used again.

    References
    ----------
    .. [1] H. Kervadec et al., "Boundary loss for highly unbalanced segmentation", MIDL 2019,
       285-296.
    """

    def __init__(
        self,
        spacing: Sequence[float] | None = None,
        *,
        background: bool = False,
        ignore_index: int | None = -100,
    ) -> None:
        super().__init__(None, ignore_index)
        self.spacing = None if spacing is None else tuple(float(s) for s in spacing)
        self.background = background

    def forward(self, logits: Tensor, target: Tensor, distances: Tensor | None = None) -> Tensor:
        """The loss; `distances` instead of those of the target."""
        given = self.read(logits, target)
        if distances is None:
            distances = self._of(given, tuple(logits.shape[2:]))
        elif distances.shape != logits.shape:
            raise ValueError(
                f"BoundaryLoss: distances must have the shape of logits, {tuple(logits.shape)}, "
                f"got {tuple(distances.shape)}"
            )
        p = given.probabilities()
        phi = distances.reshape(p.shape).to(p)
        first = int(p.shape[1] > 1 and not self.background)
        return (p * phi)[:, first:].sum() / (given.known * (p.shape[1] - first))

    def distances(self, target: Tensor, classes: int) -> Tensor:
        """Signed distances (N, classes, *spatial), float32, of labels (N, *spatial).

        0 where a class has no boundary, and for class 0 of several unless `background`.
        """
        shape = (len(target), classes, *target.shape[1:])
        given = self.read(torch.zeros((), dtype=torch.float32).expand(shape), target.cpu())
        return self._of(given, tuple(target.shape[1:])).to(target.device)

    def _of(self, given: Labelled, spatial: tuple[int, ...]) -> Tensor:
        n, classes, _ = given.logits.shape
        labels = given.labels().cpu().numpy().reshape(n, *spatial)
        known = None
        if given.valid is not None:
            known = given.valid.cpu().numpy().reshape(n, *spatial)
        phi = np.zeros((n, classes, *spatial), np.float32)
        for k, image in enumerate(labels):
            for c in range(int(classes > 1 and not self.background), classes):
                inside = image == (1 if classes == 1 else c)
                if known is not None:
                    inside &= known[k]
                if inside.any() and not inside.all():
                    signed_distance(inside, self.spacing, dtype=np.float32, out=phi[k, c])
        return torch.from_numpy(phi).to(given.logits.device)
