"""Figures of a segmentation against the truth: overlap, surfaces, partitions, instances, scores.

Masks are arrays of any library; what is not 0 is inside. Distances are in mm. `evaluate` gives the
common figures of every label at once.
"""

from medseg_fast.boundary_score import BoundaryScore, boundary_f1
from medseg_fast.metrics.bootstrap import Interval, bootstrap_interval
from medseg_fast.metrics.evaluation import evaluate
from medseg_fast.metrics.instances import (
    AveragePrecision,
    instance_average_precision,
    mask_average_precision,
)
from medseg_fast.metrics.overlap import (
    LabelOverlap,
    accuracy,
    confusion_matrix,
    dice,
    jaccard,
    label_overlap,
    precision,
    sensitivity,
    specificity,
    volume_error,
    volume_similarity,
)
from medseg_fast.metrics.partitions import (
    adapted_rand_error,
    rand_index,
    variation_of_information,
)
from medseg_fast.metrics.ranking import average_precision_score, roc_auc_score
from medseg_fast.metrics.surfaces import (
    SurfaceDistances,
    average_surface_distance,
    hausdorff_95,
    hausdorff_distance,
    normalised_surface_distance,
    surface_distances,
)

__all__ = [
    "AveragePrecision",
    "BoundaryScore",
    "Interval",
    "LabelOverlap",
    "SurfaceDistances",
    "accuracy",
    "adapted_rand_error",
    "average_precision_score",
    "average_surface_distance",
    "bootstrap_interval",
    "boundary_f1",
    "confusion_matrix",
    "dice",
    "evaluate",
    "hausdorff_95",
    "hausdorff_distance",
    "instance_average_precision",
    "jaccard",
    "label_overlap",
    "mask_average_precision",
    "normalised_surface_distance",
    "precision",
    "rand_index",
    "roc_auc_score",
    "sensitivity",
    "specificity",
    "surface_distances",
    "variation_of_information",
    "volume_error",
    "volume_similarity",
]
