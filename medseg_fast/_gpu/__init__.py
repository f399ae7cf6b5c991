"""What launches the kernels of GPUs: one function an operation, by the operation's name.

Such a function takes a `Device` and the operation's arguments, checks them, allocates, and launches
kernels of `medseg_fast.kernels` in order on the device's stream. On a GPU the device is CuPy's; in
tests it is the shim's, and the arrays are NumPy's: the same function serves both. It copies nothing
to the host but what the operation's docstring says, and waits for the device nowhere else.

A new one in five steps: the kernel in ``kernels/NAME.cuh``; its `Source` and the launching function
here; ``@operation(gpu="NAME")`` on the public function, with a sentence in its Notes; a test in
``tests/gpu`` that compares slow twin, CPU and shim; bytes per pixel in
``benchmarks/gpu_resources.py``, which is then run. The tests compile it for every architecture.
"""
