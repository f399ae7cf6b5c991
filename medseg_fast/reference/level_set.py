"""Sparse field level sets with sets of voxels and dictionaries of values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Voxel = tuple[int, ...]


class SparseField:
    """Layers of voxels around the surface, see csrc/sparse_field.hpp."""

    def __init__(self, mask: NDArray[np.bool_], spacing: Sequence[float]) -> None:
        self.shape, self.h = mask.shape, spacing
        self.inside = mask.copy()
        self.phi: dict[Voxel, float] = {}
        for v in np.ndindex(self.shape):
            across = [h for w, h in self.faces(v) if mask[w] != mask[v]]
            if across:
                self.phi[v] = math.copysign(min(across) / 2, -1 if mask[v] else 1)
        self.active = self.nearer_sides()
        self.near: set[Voxel] = set()
        self.layers(set())

    def faces(self, v: Voxel) -> list[tuple[Voxel, float]]:
        """Face neighbours and how far they are."""
        found = []
        for axis, step in itertools.product(range(len(v)), (-1, 1)):
            if 0 <= v[axis] + step < self.shape[axis]:
                found.append((self.step(v, axis, step), self.h[axis]))
        return found

    def step(self, v: Voxel, axis: int, by: int) -> Voxel:
        at = min(max(v[axis] + by, 0), self.shape[axis] - 1)
        return (*v[:axis], at, *v[axis + 1 :])

    def value(self, v: Voxel) -> float:
        return float(np.float32(self.phi.get(v, 0.0)))

    def nearer_sides(self) -> set[Voxel]:
        return {
            v
            for v in self.phi
            if any(
                self.inside[w] != self.inside[v] and abs(self.value(v)) <= abs(self.value(w))
                for w, _ in self.faces(v)
            )
        }

    def distance(self, v: Voxel, layer: set[Voxel]) -> float:
        side = -1.0 if self.inside[v] else 1.0
        nearest, rest = [], 1.0
        missing = []
        for axis, h in enumerate(self.h):
            found = [self.step(v, axis, by) for by in (-1, 1)]
            values = [(side * self.value(w), w) for w in found if w != v and w in layer]
            if values:
                nearest.append((*min(values, key=lambda pair: pair[0]), h))
            else:
                missing.append(axis)
        nearest.sort(key=lambda triple: triple[0])
        base = nearest[0][1]
        for axis in missing:
            ends = [self.step(base, axis, by) for by in (-1, 1)]
            low, high = (w if w in layer else base for w in ends)
            steps = (low != base) + (high != base)
            if steps:
                slope = (self.value(high) - self.value(low)) / (steps * self.h[axis])
                rest -= slope**2
        rest = max(rest, 1 / 3)
        u = math.inf
        for n in range(1, len(nearest) + 1):
            if nearest[n - 1][0] >= u:
                break
            a = sum(1 / h**2 for _, _, h in nearest[:n])
            b = sum(d / h**2 for d, _, h in nearest[:n])
            c = sum((d / h) ** 2 for d, _, h in nearest[:n]) - rest
            if b * b - a * c < 0:
                break
            u = (b + math.sqrt(b * b - a * c)) / a
        return side * u

    def around(self, layer: set[Voxel]) -> set[Voxel]:
        return {w for v in layer for w, _ in self.faces(v)} - layer

    def layers(self, known: set[Voxel]) -> None:
        """The near layer, values of what was not known before; the outer layer."""

        def kept(v: Voxel, layer: set[Voxel]) -> float:
            value = self.distance(v, layer)
            return min(value, -1e-4) if self.inside[v] else max(value, 1e-4)

        self.near = self.around(self.active)
        fresh = {v: kept(v, self.active) for v in self.near - known}
        self.phi.update(fresh)
        outer = self.around(self.near) - self.active
        self.phi.update({v: kept(v, self.near) for v in outer})

    def move(self, changes: dict[Voxel, float]) -> None:
        for v, change in changes.items():
            self.phi[v] = self.value(v) + change
        self.phi.update({v: self.distance(v, self.active) for v in self.near})
        for v in self.active | self.near:
            self.inside[v] = self.value(v) < 0
        known = self.active | self.near
        self.active = self.nearer_sides() & known
        self.layers(known)

    # Differences

    def slopes(self, v: Voxel, of: Callable[[Voxel], float]) -> tuple[Any, Any]:
        back = [(of(v) - of(self.step(v, a, -1))) / h for a, h in enumerate(self.h)]
        forth = [(of(self.step(v, a, 1)) - of(v)) / h for a, h in enumerate(self.h)]
        return np.array(back), np.array(forth)

    def offset(self, v: Voxel) -> NDArray[np.float64]:
        """Voxels from v to the surface along each axis."""
        back, forth = self.slopes(v, self.value)
        central = (back + forth) / 2
        square = (central**2).sum()
        if square < 1e-6:
            return np.zeros(len(v))
        return np.asarray(np.clip(-self.value(v) * central / square / np.array(self.h), -1, 1))

    def at_surface(self, v: Voxel, of: Callable[[Voxel], float]) -> float:
        total = of(v)
        for axis, o in enumerate(self.offset(v)):
            total += abs(o) * (of(self.step(v, axis, 1 if o > 0 else -1)) - of(v))
        return total

    def outwards(self, v: Voxel, speed: float) -> float:
        back, forth = self.slopes(v, self.value)
        if speed > 0:
            terms = np.maximum(back, 0) ** 2 + np.minimum(forth, 0) ** 2
        else:
            terms = np.minimum(back, 0) ** 2 + np.maximum(forth, 0) ** 2
        return float(speed * math.sqrt(terms.sum()))

    def curvature(self, v: Voxel) -> float:
        back, forth = self.slopes(v, self.value)
        p = (back + forth) / 2
        if (p**2).sum() < 1e-6:
            return 0.0
        n = len(v)
        second = np.zeros((n, n))
        for i, j in itertools.product(range(n), repeat=2):
            if i == j:
                second[i, i] = (forth[i] - back[i]) / self.h[i]
                continue
            corners = {
                (a, b): self.value(self.step(self.step(v, i, a), j, b))
                for a, b in itertools.product((-1, 1), repeat=2)
            }
            mixed = corners[1, 1] + corners[-1, -1] - corners[1, -1] - corners[-1, 1]
            second[i, j] = mixed / (4 * self.h[i] * self.h[j])
        return float(np.trace(second) - p @ second @ p / (p @ p))


def geodesic_active_contour(
    speed: NDArray[np.float32],
    mask: NDArray[np.bool_],
    propagation: float,
    curvature: float,
    advection: float,
    iterations: int,
    spacing: Sequence[float],
) -> SparseField:
    field = SparseField(mask, spacing)
    side, diffusion = min(spacing), sum(2 / h**2 for h in spacing)

    def g(v: Voxel) -> float:
        return float(speed[v])

    for _ in range(iterations):
        changes, limit = {}, 0.0
        for v in field.active:
            here, there = g(v), max(field.at_surface(v, g), 0.0)
            rate = -field.outwards(v, propagation * there)
            back, forth = field.slopes(v, g)
            phi_back, phi_forth = field.slopes(v, field.value)
            drift = 0.0
            for axis, o in enumerate(field.offset(v)):
                ends = {field.step(v, axis, -1), field.step(v, axis, 1)} - {v}
                slope = (back[axis] + forth[axis]) / max(len(ends), 1)
                if len(ends) == 2:
                    slope += o * (forth[axis] - back[axis])
                velocity = -advection * slope
                rate -= velocity * (phi_back if velocity > 0 else phi_forth)[axis]
                drift += max(abs(back[axis]), abs(forth[axis])) / spacing[axis]
            wave = abs(propagation) * max(here, there) / side + abs(advection) * drift
            limit = max(limit, 2 * wave + curvature * max(here, there) * diffusion)
            changes[v] = rate + curvature * there * field.curvature(v)
        if limit == 0:
            break
        field.move({v: np.clip(c / limit, -side / 2, side / 2) for v, c in changes.items()})
    return field


def chan_vese_level_set(
    image: NDArray[Any],
    mask: NDArray[np.bool_],
    mu: float,
    nu: float,
    lambda1: float,
    lambda2: float,
    iterations: int,
    spacing: Sequence[float],
) -> SparseField:
    """`image` from 0 to 1."""
    field = SparseField(mask, spacing)
    side, diffusion = min(spacing), sum(2 / h**2 for h in spacing)
    for _ in range(iterations):
        c1 = image[field.inside].mean() if field.inside.any() else 0.0
        c2 = image[~field.inside].mean() if not field.inside.all() else 0.0

        def force(value: float, c1: float = c1, c2: float = c2) -> float:
            return lambda2 * (value - c2) ** 2 - lambda1 * (value - c1) ** 2 - nu

        changes, limit = {}, 0.0
        for v in field.active:
            here = force(image[v])
            there = force(field.at_surface(v, lambda w: float(image[w])))
            limit = max(limit, 2 * max(abs(here), abs(there)) / side + mu * diffusion)
            changes[v] = mu * field.curvature(v) - field.outwards(v, there)
        if limit == 0:
            break
        field.move({v: np.clip(c / limit, -side / 2, side / 2) for v, c in changes.items()})
    return field
