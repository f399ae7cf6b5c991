"""The losses as their papers write them, in plain NumPy."""

from __future__ import annotations

import itertools

import numpy as np
from scipy import ndimage

IGNORE = -100


def plain(logits, target):
    """Probabilities and shares (N, C, V) and labelled (N, V), in NumPy."""
    z = logits.detach().numpy().reshape(*logits.shape[:2], -1).astype(np.float64)
    if z.shape[1] == 1:
        p = 1 / (1 + np.exp(-z))
    else:
        p = np.exp(z - z.max(1, keepdims=True))
        p /= p.sum(1, keepdims=True)
    t = target.numpy()
    if target.is_floating_point():
        t = t.reshape(z.shape)
        known = ~np.isnan(t).any(1)
    else:
        flat = t.reshape(len(z), -1)
        known = flat != IGNORE
        wanted = range(z.shape[1]) if z.shape[1] > 1 else [1]
        t = np.stack([flat == c for c in wanted], 1).astype(float)
    return p * known[:, None], np.nan_to_num(t) * known[:, None], known


def as_classes(p, t, known):
    """Of one channel: outside and inside."""
    if p.shape[1] > 1:
        return p, t
    return np.concatenate([1 - p, p], 1), np.concatenate([1 - t, t], 1) * known[:, None]


def mean_of_images(losses, known):
    """Over classes, of images with labels."""
    return losses[known.any(1)].mean()


def np_cross_entropy(logits, target, weight=None):
    p, t = as_classes(*(a := plain(logits, target))[:2], a[2])
    w = np.ones(p.shape[1]) if weight is None else np.array(weight)
    share = w[:, None] * t
    return -(share * np.log(np.where(share > 0, p, 1))).sum() / share.sum()


def np_focal(logits, target, gamma=2.0, weight=None):
    p, t, known = plain(logits, target)
    p, t = as_classes(p, t, known)
    w = np.ones(p.shape[1]) if weight is None else np.array(weight)
    share = w[:, None] * t
    terms = share * (1 - p) ** gamma * np.log(np.where(share > 0, p, 1))
    return -terms.sum() / known.sum()


def np_dice(logits, target, first=0, power=1, smooth=1e-5):
    p, t, known = plain(logits, target)
    p, t = p[:, first:], t[:, first:]
    above = 2 * (p * t).sum(2) + smooth
    below = (p**power).sum(2) + (t**power).sum(2) + smooth
    return mean_of_images(1 - above / below, known)


def np_jaccard(logits, target, smooth=1e-5):
    p, t, known = plain(logits, target)
    both = (p * t).sum(2)
    return mean_of_images(
        1 - (both + smooth) / ((p**2).sum(2) + (t**2).sum(2) - both + smooth), known
    )


def np_tversky(logits, target, alpha, beta, smooth=1e-5):
    p, t, known = plain(logits, target)
    both, extra, missed = (p * t).sum(2), (p * (1 - t)).sum(2), ((1 - p) * t).sum(2)
    return mean_of_images(
        1 - (both + smooth) / (both + alpha * extra + beta * missed + smooth), known
    )


def np_boundary(logits, target, spacing=None):
    p, t, known = plain(logits, target)
    spatial = logits.shape[2:]
    first = int(p.shape[1] > 1)
    if first:
        t = np.eye(p.shape[1])[t.argmax(1)].swapaxes(1, 2) * known[:, None]
    phi = np.zeros_like(p)
    for n, c in itertools.product(range(len(p)), range(first, p.shape[1])):
        inside = t[n, c].reshape(spatial) > 0.5
        if inside.any() and not inside.all():
            away = ndimage.distance_transform_edt(~inside, spacing)
            phi[n, c] = (away - ndimage.distance_transform_edt(inside, spacing)).ravel()
    return (p * phi).sum() / (known.sum() * (p.shape[1] - first))


def np_lovasz(errors, inside):
    """The Lovasz extension as a sum of set functions' values (the definition)."""
    order = np.argsort(-errors, kind="stable")

    def jaccard_loss(wrong):
        changed = inside ^ wrong  # the prediction whose mistakes are `wrong`
        union = (changed | inside).sum()
        return 0.0 if union == 0 else 1 - (changed & inside).sum() / union

    total, wrong, before = 0.0, np.zeros(len(errors), bool), 0.0
    for k in order:
        wrong[k] = True
        now = jaccard_loss(wrong)
        total += max(errors[k], 0) * (now - before)
        before = now
    return total


def np_lovasz_loss(logits, target):
    p, t, known = plain(logits, target)
    if logits.shape[1] == 1:
        z = logits.numpy().reshape(len(p), -1)[known]
        inside = t[:, 0][known] > 0.5
        return np_lovasz(1 - z * (2 * inside - 1), inside)
    p, labels = np.moveaxis(p, 1, 0)[:, known], t.argmax(1)[known]
    present = [c for c in range(len(p)) if (labels == c).any()]
    return np.mean([np_lovasz(np.abs((labels == c) - p[c]), labels == c) for c in present])


def np_structured(logits, target, size, weight=(1, 1)):
    """Every voxel of every patch, one by one."""
    spatial, reach = target.shape[1:], size // 2
    total = divisor = 0.0
    for n, *at in itertools.product(*map(range, target.shape)):
        for k, offset in enumerate(itertools.product(range(-reach, reach + 1), repeat=len(at))):
            other = [a + o for a, o in zip(at, offset, strict=True)]
            if all(0 <= i < m for i, m in zip(other, spatial, strict=True)):
                label = int(target[(n, *other)])
                if label != IGNORE:
                    p = 1 / (1 + np.exp(-float(logits[(n, k, *at)])))
                    total -= weight[label] * np.log(p if label else 1 - p)
                    divisor += weight[label]
    return total / divisor
