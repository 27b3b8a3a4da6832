"""Sign(x) → Where(x ≥ 0, 1, −1) or Where(x > 0, 1, −1), as was chosen for zeros.

Sign(0) is 0, and there is no bit for it. This pass changes what the model computes, for an x of
exactly 0 and nowhere else, so it applies only where a person asked for it: `plus` takes Sign(0) for
+1, the first right-hand side, `minus` for −1, the second. −0.0 is 0. With `strict`, which is the
default, every Sign that is left stays, and the layers after it stay float.

Conditions: float32, and x computed. It comes after normalise_sign, so a Sign whose zeros the graph
itself takes care of, or that is never zero, is none of these; and it ends with that pass, which
finds the thresholds of the new comparisons. The choice is noted on every node that relies on it.
"""

from typing import Literal

import numpy as np
import onnx_ir as ir

from bicompile.passes.graph import (
    ASSUMED,
    Builder,
    constant,
    is_float32,
    names_in,
    produced_by,
    replace,
    shape_of,
)
from bicompile.passes.normalise_sign import normalise_sign

CHOICE = "bicompile.sign_of_zero"
"""Metadata key of a model: strict, plus or minus; strict where absent."""

SignOfZero = Literal["strict", "plus", "minus"]

_COMPARISONS = {"plus": "GreaterOrEqual", "minus": "Greater"}
_SAID = {"plus": "sign(0) taken as +1", "minus": "sign(0) taken as −1"}


def sign_of_zero(model: ir.Model) -> None:
    """Apply the rewrite of this file to every Sign, if the model's metadata ask for it."""
    choice = model.metadata_props.get(CHOICE, "strict")
    if choice == "strict":
        return
    names = names_in(model.graph)
    for node in list(model.graph):
        x = node.inputs[0] if produced_by(node.outputs[0], "Sign") is not None else None
        if x is None or not is_float32(x) or constant(x) is not None:
            continue
        build, shape = Builder(node, names), shape_of(x)
        zero, one, minus = (
            build.constant(label, np.array(number, np.float32))
            for label, number in (("zero", 0), ("above", 1), ("below", -1))
        )
        positive = build.node(_COMPARISONS[choice], [x, zero], shape, ir.DataType.BOOL)
        metadata = {ASSUMED: _SAID[choice]}
        chosen = build.node("Where", [positive, one, minus], shape, metadata=metadata)
        replace(node, chosen)
    normalise_sign(model)
