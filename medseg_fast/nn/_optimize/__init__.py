"""Networks compiled into plans: `optimize` makes one from a torch module, `load_plan` from a file.

`_trace` writes a module down as a `_graph.Graph` (`_layers` says which calls of ATen become which
layers), `_fuse` joins layers, `_memory` finds every map's place, `_lower` turns layers into calls
of `core.plan`, and `_plan.Plan` runs them. What a loaded plan needs does not import torch: `_plan`
and `_file`.
"""
