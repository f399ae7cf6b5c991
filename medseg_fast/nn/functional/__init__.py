"""What networks are made of: NumPy arrays or PyTorch tensors in, the same kind out.

Needs NumPy alone; with PyTorch every function is a registered operator with gradients.
"""

from medseg_fast.nn.functional.resampling import resample_argmax, upsample_argmax

__all__ = ["resample_argmax", "upsample_argmax"]
