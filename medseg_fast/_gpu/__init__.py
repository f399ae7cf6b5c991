"""What launches the kernels of GPUs: one function an operation, by the operation's name.

Such a function takes a `Device` and the operation's arguments, checks them, allocates, and launches
kernels of `medseg_fast.kernels` in order on the device's stream. On a GPU the device is CuPy's; in
tests it is the shim's, and the arrays are NumPy's: the same function serves both.
"""
