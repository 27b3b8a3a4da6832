"""Remove nodes and constants that nothing uses."""

import onnx_ir as ir
import onnx_ir.passes.common


def remove_unused(model: ir.Model) -> None:
    """Apply the removal."""
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
