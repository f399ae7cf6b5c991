"""What networks are made of: NumPy arrays or PyTorch tensors in, the same kind out.

Needs NumPy alone; with PyTorch every function is a registered operator with gradients.
"""

__all__: list[str] = []
