"""A graph → the graph without the nodes and constants that no output is computed from.

Conditions: none, as what is removed has no part in any result. The functions of the domain stay,
used or not: later passes need them.
"""

import onnx_ir as ir
import onnx_ir.passes.common


def remove_unused(model: ir.Model) -> None:
    """Apply the removal."""
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
