"""Networks for segmentation, and the kernels they are made of."""

from medseg_fast.nn import functional

__all__ = ["functional"]
