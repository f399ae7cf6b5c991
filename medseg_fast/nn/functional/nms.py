"""Non-maximum suppression: the best of the boxes that overlap."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medseg_fast import _checks
from medseg_fast._cpu import core
from medseg_fast._dispatch import operation
from medseg_fast.nn.functional import _boxes


def _boxes_and_scores(op: str, boxes: Any, scores: Any) -> tuple[NDArray[Any], NDArray[Any]]:
    """Both C-contiguous and in one dtype, float32 or float64."""
    array, ranks = _boxes.floats(op, "boxes", boxes), _boxes.floats(op, "scores", scores)
    if array.ndim != 2 or array.shape[1] not in (4, 6):
        raise ValueError(f"{op}: boxes must have shape (N, 4) or (N, 6), got {array.shape}")
    if ranks.shape != array.shape[:1]:
        raise ValueError(f"{op}: scores must have shape ({len(array)},), got {ranks.shape}")
    if len(array) >= 2**24:
        raise ValueError(f"{op}: boxes must be fewer than 2**24, got {len(array)}")
    dtype = _boxes.arithmetic(np.promote_types(array.dtype, ranks.dtype))
    if dtype == np.float64 and array.dtype.itemsize < 8:
        # Scores only rank boxes: the boxes' own dtype decides how overlaps are computed.
        order = np.lexsort((-ranks, ~np.isnan(ranks)))
        dtype, ranks = np.dtype(np.float32), np.empty(len(order), np.float32)
        ranks[order] = -np.arange(len(order), dtype=np.float32)
    return np.require(array, dtype, ["C", "A"]), np.require(ranks, dtype, ["C", "A"])


@operation(gpu="nms")
def nms(boxes: ArrayLike, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Keep the best box, drop those that overlap it much, and so on with the rest.

    As torchvision's function of that name, to the last box, and for boxes in volumes as well.

    Parameters
    ----------
    boxes : array of shape (N, 4) or (N, 6)
        ``x1, y1, x2, y2``, for volumes ``x1, y1, z1, x2, y2, z2``; float32 or float64, in which
        overlaps are computed. float16 and integers become float32.
    scores : array of shape (N,)
    iou_threshold : float
        A box goes when its intersection over union with a kept one is above; equal is kept.

    Returns
    -------
    array of int64
        Indices of the kept boxes, best score first; of equal scores the lower index comes first.

    Raises
    ------
    ValueError
        If the shapes do not fit, or the threshold is NaN.

    See Also
    --------
    batched_nms : Boxes of several classes.
    soft_nms : Lowers scores instead of dropping boxes.

    Notes
    -----
    A box with NaN overlaps none and is kept; a NaN score ranks before all others, both as in
    torchvision. Boxes without area (x2 <= x1) overlap none either. Under torch.compile it runs
    outside the graph: only the data tell how many boxes are kept.

    O(N sqrt N) time for boxes spread over an image: each kept box meets only blocks of boxes of its
    neighbourhood and size. Where all overlap and none is dropped, O(N^2). 60 bytes per box.

    On a GPU all pairs are compared, N^2 / 8 bytes; the number of kept boxes is waited for.

    MONAI orders volumes' axes (x, y, z) as stored, nnDetection's boxes are ``y1, x1, y2, x2, z1,
    z2``: reorder the latter's columns.

    References
    ----------
    .. [1] Neubeck and Van Gool, "Efficient Non-Maximum Suppression", ICPR 2006.

    Examples
    --------
    >>> import numpy as np
    >>> boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]], np.float32)
    >>> nms(boxes, np.array([0.8, 0.9, 0.7]), 0.5)
    array([1, 2])
    """
    op = "nms"
    array, ranks = _boxes_and_scores(op, boxes, scores)
    threshold = float(_checks.number(op, "iou_threshold", iou_threshold))
    keep = np.empty(len(array), np.int64)
    return keep[: core.nms(array, ranks, None, threshold, keep)].copy()


@operation(gpu="nms")
def batched_nms(
    boxes: ArrayLike, scores: ArrayLike, idxs: ArrayLike, iou_threshold: float
) -> NDArray[np.int64]:
    """Non-maximum suppression within each class.

    Parameters
    ----------
    boxes : array of shape (N, 4) or (N, 6)
        As `nms` takes them.
    scores : array of shape (N,)
    idxs : integer array of shape (N,)
        Class of each box; boxes of different classes do not suppress each other.
    iou_threshold : float
        As for `nms`.

    Returns
    -------
    array of int64
        Indices of the kept boxes, best score first; of equal scores the lower index comes first.

    Raises
    ------
    TypeError
        If `idxs` are not integers.
    ValueError
        If the shapes do not fit, or the threshold is NaN.

    Notes
    -----
    torchvision shifts the boxes of each class apart where they are at most 1000 (4000 coordinates)
    and goes class by class otherwise. The shift rounds coordinates, so the two may differ in a box;
    this function does what torchvision does for that number of boxes. Class by class, torchvision
    leaves the order of equal scores open. Classes run in parallel. NaN as in `nms`.

    References
    ----------
    .. [1] Neubeck and Van Gool, "Efficient Non-Maximum Suppression", ICPR 2006.

    Examples
    --------
    >>> import numpy as np
    >>> boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [0, 0, 4, 4]], np.float32)
    >>> batched_nms(boxes, np.array([0.8, 0.9, 0.7]), np.array([1, 1, 2]), 0.5)
    array([1, 2])
    """
    op = "batched_nms"
    array, ranks = _boxes_and_scores(op, boxes, scores)
    classes = np.asarray(idxs)
    if classes.dtype.kind not in "bui":
        raise TypeError(f"{op}: idxs must be integers, got {classes.dtype}")
    if classes.shape != ranks.shape:
        raise ValueError(f"{op}: idxs must have shape {ranks.shape}, got {classes.shape}")
    threshold = float(_checks.number(op, "iou_threshold", iou_threshold))
    keep = np.empty(len(array), np.int64)
    if 0 < array.size <= 4000:
        with np.errstate(all="ignore"):
            shift = classes.astype(array.dtype) * (array.max() + array.dtype.type(1))
            array = array + shift[:, None]
        count = core.nms(array, ranks, None, threshold, keep)
    else:
        groups = np.require(classes, np.int64, ["C", "A"])
        count = core.nms(array, ranks, groups, threshold, keep)
    return keep[:count].copy()


@operation(gpu="nms")
def soft_nms(
    boxes: ArrayLike,
    scores: ArrayLike,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    score_threshold: float = 0.001,
    method: Literal["linear", "gaussian"] = "linear",
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Lower the scores of boxes that overlap better ones, instead of dropping them.

    Parameters
    ----------
    boxes : array of shape (N, 4) or (N, 6)
        As `nms` takes them.
    scores : array of shape (N,)
    iou_threshold : float
        With "linear": a box whose intersection over union with a better one is at least this has
        its score multiplied by 1 - IoU.
    sigma : float
        With "gaussian": every overlap multiplies the score by exp(-IoU^2 / sigma).
    score_threshold : float
        Boxes whose score is not above are dropped.
    method : {"linear", "gaussian"}

    Returns
    -------
    keep : array of int64
        Indices of the boxes left, in the order they were picked: best lowered score first; of equal
        ones the lower index.
    scores : array
        Their lowered scores, in the dtype of `boxes` (float32 or float64).

    Raises
    ------
    ValueError
        If the shapes do not fit, a number is NaN, `sigma` is not positive or `method` is unknown.

    See Also
    --------
    nms : Drops boxes.

    Notes
    -----
    Boxes with a NaN score are dropped; a box with NaN overlaps none. O(N^2 / 64) at worst, for
    boxes spread over an image about O(N sqrt N). On a GPU one block does it, in O(N) for each box
    that is picked; "gaussian" rounds exp as the device does.

    References
    ----------
    .. [1] Bodla et al., "Soft-NMS: Improving Object Detection With One Line of Code", ICCV 2017.

    Examples
    --------
    >>> import numpy as np
    >>> boxes = np.array([[0, 0, 4, 4], [1, 0, 5, 4], [9, 9, 12, 12]], np.float32)
    >>> soft_nms(boxes, np.array([0.8, 0.9, 0.7], np.float32))
    (array([1, 2, 0]), array([0.9 , 0.7 , 0.32], dtype=float32))
    """
    op = "soft_nms"
    array = _boxes.floats(op, "boxes", boxes)
    ranks = _boxes.floats(op, "scores", scores)
    dtype = _boxes.arithmetic(array.dtype)
    array, ranks = _boxes_and_scores(op, array, ranks.astype(dtype))
    if method not in ("linear", "gaussian"):
        raise ValueError(f'{op}: method must be "linear" or "gaussian", got {method!r}')
    width = float(_checks.number(op, "sigma", sigma))
    if not width > 0:
        raise ValueError(f"{op}: sigma must be positive, got {sigma!r}")
    threshold = float(_checks.number(op, "iou_threshold", iou_threshold))
    least = float(_checks.number(op, "score_threshold", score_threshold))
    keep, lowered = np.empty(len(array), np.int64), np.empty(len(array), array.dtype)
    width = 0.0 if method == "linear" else width
    count = core.soft_nms(array, ranks, threshold, width, least, keep, lowered)
    return keep[:count].copy(), lowered[:count].copy()
