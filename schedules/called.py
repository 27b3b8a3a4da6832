"""A whole nest as calls of a microkernel."""

from collections.abc import Sequence
from typing import Any

from tvm import s_tir, tirx


def call(
    function: tirx.PrimFunc, name: str, arguments: Sequence[Any], scratch: Sequence[Any] = ()
) -> tirx.PrimFunc:
    """The nest's parameters and attributes, with `name(arguments)` for its body.

    Arguments are parameters of the nest, or buffers of `scratch`, which it then has for itself:
    they are passed as pointers to their first elements. Or they are numbers, passed as int32.
    """
    passed = [
        argument if isinstance(argument, int) else argument.access_ptr("rw")
        for argument in arguments
    ]
    return with_steps(function, [call_with(name, *passed)], scratch)


def call_with(name: str, *arguments: Any) -> tirx.Stmt:
    """`name(arguments)`."""
    return tirx.Evaluate(tirx.call_extern("void", name, *arguments))


def with_steps(
    function: tirx.PrimFunc, steps: Sequence[tirx.Stmt], scratch: Sequence[Any] = ()
) -> tirx.PrimFunc:
    """The nest's parameters and attributes, with these steps for its body."""
    body = tirx.SeqStmt(list(steps)) if len(steps) > 1 else steps[0]
    root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body, None, scratch))
    return tirx.PrimFunc(function.params, root, function.ret_type, function.attrs)
