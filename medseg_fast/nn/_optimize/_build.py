"""`optimize`: from a torch module to a plan."""

from __future__ import annotations

import json
from typing import Any

import torch
from torch import Tensor, nn

from medseg_fast.nn._optimize import _file
from medseg_fast.nn._optimize._detector import DetectorPlan
from medseg_fast.nn._optimize._detector_build import optimize_detector
from medseg_fast.nn._optimize._fallback import Runner, keep_with_torch
from medseg_fast.nn._optimize._fuse import fuse
from medseg_fast.nn._optimize._graph import Graph
from medseg_fast.nn._optimize._lower import Lowered, Step, lower
from medseg_fast.nn._optimize._plan import Plan, checked_threads
from medseg_fast.nn._optimize._quantise import quantised
from medseg_fast.nn._optimize._trace import trace
from medseg_fast.nn.mask_rcnn import MaskRCNN

_PRECISIONS = ("float32", "bfloat16", "int8")


def optimize(
    model: nn.Module,
    example: Any,
    precision: str = "float32",
    threads: int | None = None,
) -> Plan | DetectorPlan:
    """Compile a network for inference on the CPU, for inputs of one shape.

    Batch norms become part of convolutions; activations and poolings are done where a convolution
    writes its sums; maps are concatenated by writing them side by side; all maps share one block of
    memory. The plan then runs in C++, without torch and without the GIL.

    Parameters
    ----------
    model : nn.Module
        Any of `medseg_fast.nn`, or a module of the same layers. It is compiled as it is in
        evaluation mode; weights are copied, later changes of the model do not reach the plan.
    example : tensor, array, or tuple of them
        Inputs of the shape that the plan is to take; their values matter for "int8" alone. float32.
        For Mask R-CNN an image (C, H, W), or a list of one.
    precision : {"float32", "bfloat16", "int8"}
        How maps between layers are stored. Sums are float32 in both; "bfloat16" halves the memory,
        and where the CPU has AMX, or AVX-512 with bfloat16 or VNNI, it also rounds weights and
        multiplies tiles, or pairs, of bfloat16, or transformed pairs of 16-bit integers (such a
        plan is slow on another CPU). "int8": as "bfloat16", but convolutions of at least 16
        channels multiply integers of 8 bits, in steps that the values of `example` tell: give
        images like those to come, a batch of some if the plan is for a batch. Without AMX those
        that are faster by Winograd's algorithm (3 x 3 and 5 x 5 without a stride) stay.
    threads : int, optional
        How many threads the plan uses. Default: the package's setting when it is called.

    Returns
    -------
    plan : Plan or DetectorPlan
        ``plan(x)`` gives what ``model(x)`` gives, as tensors for tensors and NumPy arrays for
        arrays; named tuples become tuples, and what the model writes to its inputs and buffers is
        not written. ``print(plan)`` lists its steps, memory, and the layers it leaves to torch. Of
        a `mask_rcnn.MaskRCNN` a `DetectorPlan`: its network in three parts, and the choice of boxes
        between them, which needs no torch either.

    Raises
    ------
    TypeError
        If `model` is no module, or does not take the example, or that is not of float32 tensors.
    ValueError
        If `precision` is unknown, or "int8" and the example holds zeros alone; or if the model
        cannot be traced: it fails on the example, or its course depends on values.
    NotImplementedError
        If `precision` is not "float32" for a network with layers left to torch, or "int8" for Mask
        R-CNN.

    Notes
    -----
    Our kernels run convolutions of any kernel, stride, dilation and groups, transposed
    convolutions, linear layers, batch, instance and group norms, ReLU, leaky ReLU, PReLU, ReLU6,
    ELU, SiLU, sigmoid, tanh, their "hard" kin, softmax over channels, attention of all pixels to
    all pixels (block by block: memory does not grow with their square), max and average pooling
    (also with indices, and their inverse), adaptive average pooling, linear and nearest
    interpolation, padding, crops, concatenations, sums and products; 1D to 3D. Other layers are
    left to torch, one by one, and listed in ``plan.fallbacks``; a plan without any can be saved
    (`Plan.save`), read by `load_plan` where there is no torch, and used there by `predict`.

    Weights of 8 bits are steps of each output channel's largest, inputs steps of one size for a
    layer, of which one value in 10 000 may lie beyond the largest; sums are exact in 32 bits.

    float32 results are within 1e-4 of torch's, relative to the largest: the order of sums differs,
    and convolutions of 3 x 3 and 5 x 5 go by Winograd's algorithm. Networks that enlarge rounding,
    as `nonlocal_unet` does with random weights (torch is 6e-5 from float64 there), are within 3e-4.

    The plan's packed weights take one to four times the memory of the module's in float32, half to
    twice in bfloat16, the least for filters of many channels; the weights themselves, which
    `Plan.save` writes, wait in a temporary file.

    References
    ----------
    .. [1] Lavin, Gray: Fast Algorithms for Convolutional Neural Networks, CVPR 2016.
    .. [2] Pisarchyk, Lee: Efficient Memory Management for Deep Neural Net Inference, 2020.
    .. [3] Jacob et al.: Quantization and Training of Neural Networks for Efficient
       Integer-Arithmetic-Only Inference, CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from medseg_fast import nn
    >>> model = nn.unet(1, 2, widths=(8, 16), padding="same", norm="batch").eval()
    >>> plan = nn.optimize(model, torch.zeros(1, 1, 64, 64))
    >>> tuple(plan(torch.zeros(1, 1, 64, 64)).shape)
    (1, 2, 64, 64)
    """
    op = "optimize"
    if not isinstance(model, nn.Module):
        raise TypeError(f"{op}: model must be a torch module, got {type(model).__name__}")
    if precision not in _PRECISIONS:
        names = ", ".join(map(repr, _PRECISIONS))
        raise ValueError(f"{op}: precision must be one of {names}, got {precision!r}")
    threads = checked_threads(op, threads)
    examples = _examples(op, example)
    about = {
        "network": getattr(getattr(model, "architecture", None), "network", ""),
        "metadata": _plain(getattr(model, "metadata", None) or {}),
    }
    if isinstance(model, MaskRCNN):
        if len(examples) != 1:
            raise ValueError(f"{op}: example must be one image, got {len(examples)}")
        if precision == "int8":  # what its heads see depends on the weights, not on the example
            raise NotImplementedError(f"{op}: precision must not be 'int8' for Mask R-CNN")
        return optimize_detector(
            model,
            examples[0],
            about,
            lambda part, x, **internal: _compiled(part, (x,), precision, threads, {}, **internal),
        )
    return _compiled(model, examples, precision, threads, about)


def _compiled(
    model: nn.Module,
    examples: tuple[Tensor, ...],
    precision: str,
    threads: int | None,
    about: dict[str, Any],
    internal_inputs: frozenset[int] = frozenset(),
    internal_outputs: frozenset[int] = frozenset(),
) -> Plan:
    op = "optimize"
    graph = trace(model, examples)
    graph.internal_inputs, graph.internal_outputs = internal_inputs, internal_outputs
    keep_with_torch(graph)
    fuse(graph)
    # Steps of 8 bits are of a whole map's values.
    lowered = lower(graph, precision != "float32", bands=precision != "int8")
    left = any(step.call == "torch" for step in lowered.steps)
    if left and precision != "float32":
        raise NotImplementedError(
            f"{op}: precision must be 'float32' for a network with layers left to torch: "
            + "; ".join(f"{name} ({reason})" for name, reason in graph.reasons.items())
        )
    parts = {
        "precision": precision,
        "threads": threads,
        "inputs": [value.shape for value in graph.inputs],
        "outputs": [value.shape for value in graph.outputs],
        "internal_inputs": sorted(internal_inputs),
        "internal_outputs": sorted(internal_outputs),
        "structure": graph.structure,
        "arena_bytes": lowered.arena_bytes,
        "naive_bytes": lowered.naive_bytes,
        "fallbacks": graph.reasons,
        **about,
        "steps": [_described(step) for step in lowered.steps],
    }
    runner = _runner(graph, lowered, left)
    if runner is not None:
        return Plan(parts, runner)
    if precision == "int8":
        plan = Plan({**parts, "threads": None})
        parts["steps"] = quantised(plan, [each.numpy() for each in examples])
    parts, mapping = _file.set_aside(parts)
    return Plan(parts, mapping=mapping)


def _runner(graph: Graph, lowered: Lowered, left: bool) -> Runner | None:
    made_by_torch = any(not value.root.native for value in graph.outputs)
    return Runner(graph, lowered.placement) if left or made_by_torch else None


def _plain(metadata: Any) -> dict[str, Any]:
    """A copy, as a file of the plan will give it back."""
    try:
        copy: dict[str, Any] = json.loads(json.dumps(metadata))
    except (TypeError, ValueError) as error:
        raise TypeError(f"optimize: model's metadata must fit into JSON: {error}") from None
    return copy


def _described(step: Step) -> dict[str, Any]:
    made = {
        "call": step.call,
        "arguments": step.arguments,
        "name": step.name,
        "text": step.text,
        "bytes": step.bytes,
        "shape": step.shape,
    }
    return made if step.layer is None else {**made, "layer": step.layer}


def _examples(op: str, example: Any) -> tuple[Tensor, ...]:
    given = tuple(example) if isinstance(example, (tuple, list)) else (example,)
    tensors = tuple(torch.as_tensor(each).detach().cpu() for each in given)
    for tensor in tensors:
        if tensor.dtype != torch.float32:
            raise TypeError(f"{op}: example must be float32, got {tensor.dtype}")
    return tensors
