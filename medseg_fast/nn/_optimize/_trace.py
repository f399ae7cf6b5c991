"""From a torch module to a `Graph`.

torch.export writes the module down as calls of ATen, whatever mixture of layers, functions and
methods it was made of (torch.fx alone would show those, and stops where sizes steer the
computation). Each call that `_layers` knows becomes one of our layers; calls of constants alone are
done at once (a folded weight, a table of connections); the rest stays a call of torch.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.export.graph_signature import OutputKind
from torch.utils import _pytree

from medseg_fast.nn import _seam
from medseg_fast.nn._modes import evaluated
from medseg_fast.nn._optimize import _layers
from medseg_fast.nn._optimize._graph import Graph, Layer, Value

_VIEWS = ("view", "_unsafe_view")  # which need their input to lie as it was traced
# What takes the indices of a pooling.
_OF_INDICES = ("max_unpool2d", "max_unpool3d", "alias", "clone", "contiguous", "detach")


def trace(model: nn.Module, examples: tuple[Any, ...]) -> Graph:
    """The module's layers on inputs like these."""
    program, structure = _exported(model, examples)
    return _Tracer(program).graph(structure)


def _exported(model: nn.Module, examples: tuple[Any, ...]) -> tuple[Any, Any]:
    with evaluated(model), _seam.torch_only(), torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = _program(model, examples)
        if any(_writes(node) for node in program.graph.nodes):
            # In place calls become plain ones; no layer is taken apart.
            program = program.run_decompositions({})
    spec = program.call_spec.out_spec
    assert spec is not None
    leaves = [_Leaf(i) for i in range(spec.num_leaves)]
    return program, _structure(_pytree.tree_unflatten(leaves, spec))


def _program(model: nn.Module, examples: tuple[Any, ...]) -> Any:
    try:
        return torch.export.export(model, examples, strict=False)
    except (RuntimeError, TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        reason = str(error).partition("\n")[0]
        raise kind(f"optimize: model cannot be traced with the example: {reason}") from error


def _writes(node: fx.Node) -> bool:
    """Whether the call changes one of its arguments."""
    schema = getattr(node.target, "_schema", None)
    return schema is not None and schema.is_mutable


class _Leaf(int):
    """The place of a result among all."""


def _structure(value: Any) -> Any:
    """How results are put together, as JSON has it: an index, a list or a dictionary."""
    if isinstance(value, _Leaf):
        return int(value)
    if isinstance(value, dict):
        return {"dict": [[key, _structure(each)] for key, each in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_structure(each) for each in value]}
    raise TypeError(
        f"optimize: model must return tensors in tuples, lists or dictionaries, got "
        f"{type(value).__name__}"
    )


class _Tracer:
    def __init__(self, program: Any) -> None:
        self.program = program
        self.layers: list[Layer] = []
        self.inputs: list[Value] = []
        self.reasons: dict[str, str] = {}
        self.known: dict[fx.Node, Any] = {}  # Value, tensor (a constant), or something plain
        self.constants = {
            **program.state_dict,
            **program.constants,
            **dict(program.named_buffers()),
        }

    def graph(self, structure: Any) -> Graph:
        """All calls, in order."""
        signature = self.program.graph_signature
        names = {
            **signature.inputs_to_parameters,
            **signature.inputs_to_buffers,
            **signature.inputs_to_lifted_tensor_constants,
        }
        outputs: list[Value] = []
        for node in self.program.graph.nodes:
            if node.op == "placeholder":
                self.known[node] = self._placeholder(node, names)
            elif node.op == "call_function":
                self.known[node] = self._call(node)
            elif node.op == "output":
                made = zip(signature.output_specs, node.args[0], strict=True)
                # The others are what the module wrote to its inputs and buffers.
                outputs = [
                    self._result(each) for spec, each in made if spec.kind is OutputKind.USER_OUTPUT
                ]
            else:
                raise TypeError(f"optimize: model holds a {node.op}, which plans do not know")
        return Graph(self.layers, self.inputs, outputs, structure, self.reasons)

    def _placeholder(self, node: fx.Node, names: dict[str, str]) -> Any:
        if node.name in names:
            return self.constants[names[node.name]].detach()
        value = node.meta["val"]
        if not isinstance(value, torch.Tensor):
            raise TypeError("optimize: model must take tensors alone")
        made = Value(tuple(value.shape), value.dtype == torch.float32 and 2 <= value.ndim <= 5)
        self.inputs.append(made)
        return made

    def _result(self, node: Any) -> Value:
        value = self.known[node] if isinstance(node, fx.Node) else node
        if isinstance(value, torch.Tensor):
            return self._copied(value, "a result is constant")
        if not isinstance(value, Value):
            raise TypeError(f"optimize: model must return tensors, got {type(value).__name__}")
        if value.indices:
            return self._copied(value, "indices of maxima are a result")
        return value

    def _by_torch(
        self,
        name: str,
        target: Callable[..., Any],
        made: Value,
        arguments: Any,
        keywords: Any,
        reason: str,
    ) -> Value:
        """A layer that torch runs, and its result."""
        if target is not operator.getitem:
            self.reasons[f"{name}: {_key(target)}"] = reason
        inputs = {str(i): value for i, value in enumerate(_values((arguments, keywords)))}
        attributes = {"target": target, "args": arguments, "kwargs": keywords, "op": _key(target)}
        self.layers.append(Layer("torch", name, inputs, {"out": made}, attributes))
        return made

    def _copied(self, value: Any, reason: str) -> Value:
        """A result that no layer of ours writes."""
        made = Value(tuple(value.shape), native=False)
        return self._by_torch("output", torch.clone, made, (value,), {}, reason)

    def _call(self, node: fx.Node) -> Any:
        arguments: Any = fx.node.map_arg(node.args, lambda n: self.known[n])
        keywords: Any = fx.node.map_arg(node.kwargs, lambda n: self.known[n])
        target: Any = node.target
        values = _values((arguments, keywords))
        tags = getattr(target, "tags", ())
        if not values and torch.Tag.nondeterministic_seeded not in tags:
            with torch.no_grad():
                return target(*arguments, **keywords)
        if target is operator.getitem and isinstance(arguments[0], tuple):
            results, index = arguments[0], arguments[1]
            return results[index]
        name = _module_of(node)
        call = _layers.Call(node, name, self.layers, self.known)
        try:
            handler = _layers.HANDLERS.get(_key(target))
            if handler is None:
                raise _layers.NotCovered("no such layer")
            if any(value.indices for value in values) and _key(target) not in _OF_INDICES:
                raise _layers.NotCovered("its input are indices of maxima")
            if not all(value.native or value.indices for value in values):
                raise _layers.NotCovered("its input is no float32 feature map")
            return handler(call, **_by_name(target, arguments, keywords))
        except _layers.NotCovered as reason:
            return self._left_to_torch(node, name, target, arguments, keywords, str(reason))

    def _left_to_torch(
        self,
        node: fx.Node,
        name: str,
        target: Callable[..., Any],
        arguments: Any,
        keywords: Any,
        reason: str,
    ) -> Any:
        if _key(target) in _VIEWS:
            target = torch.ops.aten.reshape.default
        meta = node.meta.get("val")
        if isinstance(meta, torch.Tensor):
            native = meta.dtype == torch.float32 and 2 <= meta.ndim <= 5
            made = Value(tuple(meta.shape), native)
        else:
            made = Value((), native=False)
        return self._by_torch(name, target, made, arguments, keywords, reason)


def _values(arguments: Any) -> list[Value]:
    """All values among the arguments, each once."""
    found: dict[Value, None] = {}

    def visit(each: Any) -> None:
        if isinstance(each, Value):
            found[each] = None
        elif isinstance(each, dict):
            for item in each.values():
                visit(item)
        elif isinstance(each, (_layers.Rows, _layers.Stack)):
            visit(each.values)
        elif isinstance(each, (list, tuple)):
            for item in each:
                visit(item)

    visit(arguments)
    return list(found)


def _key(target: Any) -> str:
    """aten.relu.default -> relu"""
    schema = getattr(target, "_schema", None)
    name: str = schema.name if schema is not None else getattr(target, "__name__", str(target))
    return name.removeprefix("aten::")


def _by_name(target: Any, arguments: Any, keywords: Any) -> dict[str, Any]:
    """The call's arguments under their names in the schema, defaults filled in."""
    found = {}
    for i, argument in enumerate(target._schema.arguments):
        if argument.name in keywords:
            found[argument.name] = keywords[argument.name]
        elif i < len(arguments):
            found[argument.name] = arguments[i]
        elif argument.has_default_value():
            found[argument.name] = argument.default_value
        else:
            found[argument.name] = None
    return found


def _module_of(node: fx.Node) -> str:
    """Path of the innermost module that makes this call."""
    stack = node.meta.get("nn_module_stack")
    path = list(stack.values())[-1][0] if stack else ""
    return str(path) or node.name
