"""Two constants of the same type, shape and bytes → one constant.

Layers that share weights then share their packed bits, and a number that many nodes use is stored
once. Bytes are compared: 0.0 and −0.0 stay two constants.
"""

import onnx_ir as ir
import onnx_ir.passes.common

_MOST_ELEMENTS = 2**31


def share_constants(model: ir.Model) -> None:
    """Apply the rewrite of this file to all initializers."""
    onnx_ir.passes.common.DeduplicateInitializersPass(size_limit=_MOST_ELEMENTS)(model)
