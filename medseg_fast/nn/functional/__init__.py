"""What networks are made of: NumPy arrays or PyTorch tensors in, the same kind out.

Needs NumPy alone; with PyTorch every function is a registered operator with gradients.
"""

from medseg_fast.nn.functional.pooling import max_pool_with_indices, max_unpool
from medseg_fast.nn.functional.resampling import resample_argmax, upsample_argmax

__all__ = ["max_pool_with_indices", "max_unpool", "resample_argmax", "upsample_argmax"]
