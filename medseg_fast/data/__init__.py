"""Labelled images for training: found, read, normalised, resampled, kept, and cut into patches.

>>> from medseg_fast import data
>>> pairs = data.read_pairs("mr_hippocampus")  # doctest: +SKIP
>>> cases = data.Cases(pairs, modality="mr", spacing=(1, 1, 1))  # doctest: +SKIP
>>> sampler = data.PatchSampler(cases, patch=32, batch=2)  # doctest: +SKIP
>>> images, labels = sampler(0)  # doctest: +SKIP

This folder also holds the example scans of `medseg_fast.io.example`.
"""

from medseg_fast.data._cases import Case, Cases
from medseg_fast.data._normalise import normalise
from medseg_fast.data._pairs import Pair, read_pairs
from medseg_fast.data._resample import resample
from medseg_fast.data._sampler import PatchSampler

__all__ = ["Case", "Cases", "Pair", "PatchSampler", "normalise", "read_pairs", "resample"]
