"""A whole nest as one call of a microkernel."""

from collections.abc import Sequence
from typing import Any

from tvm import s_tir, tirx


def call(
    function: tirx.PrimFunc, name: str, arguments: Sequence[Any], scratch: Sequence[Any] = ()
) -> tirx.PrimFunc:
    """The nest's parameters and attributes, with `name(arguments)` for its body.

    Arguments are parameters of the nest, or buffers of `scratch`, which it then has for itself;
    they are passed as pointers to their first elements.
    """
    pointers = [argument.access_ptr("rw") for argument in arguments]
    body = tirx.Evaluate(tirx.call_extern("void", name, *pointers))
    root = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", body, None, scratch))
    return tirx.PrimFunc(function.params, root, function.ret_type, function.attrs)
