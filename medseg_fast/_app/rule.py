"""A rule of region growing written on the command line."""

from __future__ import annotations

import ast
import math
from typing import Any

ARGUMENTS = ("value", "region_mean", "region_std", "seed_value")
_FUNCTIONS = {"abs": abs, "min": min, "max": max, "sqrt": math.sqrt}
_ALLOWED = (
    ast.Expression,
    ast.BinOp,
    ast.UnaryOp,
    ast.BoolOp,
    ast.Compare,
    ast.IfExp,
    ast.Call,
    ast.Name,
    ast.Constant,
    ast.operator,
    ast.unaryop,
    ast.boolop,
    ast.cmpop,
    ast.Load,
)


def function(text: str) -> Any:
    """Make a function of `ARGUMENTS` from an expression, for `medseg_fast.region_growing`.

    Only numbers, the four arguments, arithmetic, comparisons and `_FUNCTIONS` may be in it, so that
    an expression from somewhere else can do no harm.

    Raises
    ------
    ValueError
        If there is anything else in it, or it is no expression.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError):
        raise ValueError(f"--rule: {text!r} is not an expression") from None
    for node in ast.walk(tree):
        allowed = isinstance(node, _ALLOWED)
        if isinstance(node, ast.Name):
            allowed = node.id in ARGUMENTS or node.id in _FUNCTIONS
        elif isinstance(node, ast.Constant):
            allowed = isinstance(node.value, (int, float))
        elif isinstance(node, ast.Call):
            allowed = isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
        if not allowed:
            raise ValueError(
                f"--rule: may hold numbers, {', '.join((*ARGUMENTS, *_FUNCTIONS))}, arithmetic and "
                f"comparisons, got {ast.unparse(node) or type(node).__name__!r}"
            )
    source = f"lambda {', '.join(ARGUMENTS)}: {ast.unparse(tree)}"
    return eval(compile(source, "--rule", "eval"), {"__builtins__": {}, **_FUNCTIONS})
