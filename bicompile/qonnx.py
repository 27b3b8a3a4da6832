"""The one op of QONNX that a binary network needs, written in standard ops.

QONNX is how Brevitas exports quantized networks: standard ONNX with quantizers of the domain
`qonnx.custom_op.general`. BipolarQuant(x, scale) is scale where x ≥ 0, else −scale, for weights and
activations alike.
"""

from pathlib import Path

import onnx
from onnx import helper, inliner

from bicompile.errors import UserError

DOMAIN = "qonnx.custom_op.general"
OP = "BipolarQuant"


def with_standard_ops(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every BipolarQuant in standard ops, in the opset that it is written for.

    Raises UserError for one that does not take a tensor and its scale.
    """
    found = [node for node in model.graph.node if (node.domain, node.op_type) == (DOMAIN, OP)]
    if not found:
        return model
    for node in found:
        if (len(node.input), len(node.output)) != (2, 1):
            raise UserError(
                f"{path}: node {node.name} ({OP}) has {len(node.input)} inputs and "
                f"{len(node.output)} outputs; it takes a tensor and a scale and gives a tensor; "
                "export the model again"
            )
    nodes = [
        helper.make_node("Constant", [], ["zero"], value_float=0.0),
        helper.make_node("Neg", ["scale"], ["minus"]),
        helper.make_node("GreaterOrEqual", ["x", "zero"], ["positive"]),
        helper.make_node("Where", ["positive", "scale", "minus"], ["y"]),
    ]
    opsets = [opset for opset in model.opset_import if opset.domain in ("", "ai.onnx")]
    function = helper.make_function(DOMAIN, OP, ["x", "scale"], ["y"], nodes, opsets)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = [f for f in copy.functions if (f.domain, f.name) != (DOMAIN, OP)]
    del copy.functions[:]
    copy.functions.extend([*known, function])
    return inliner.inline_selected_functions(copy, [(DOMAIN, OP)])
