"""Reading an ONNX file that anybody may have written."""

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, version_converter

from bicompile.errors import UserError
from bicompile.ops import DOMAIN, STANDARD_OPSET

_OLDEST_OPSET = 13
_NEWEST_OPSET = 25


def load_model(path: Path) -> onnx.ModelProto:
    """Read, validate and shape-infer a model; its standard opset is then `STANDARD_OPSET`.

    Accepted: one float32 input and one float32 output of static shape, batch 1, standard ops.
    Raises UserError in one sentence for everything else.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist; give the path of an ONNX file")
    if path.is_dir():
        raise UserError(f"{path} is a folder; give the path of an ONNX file")
    try:
        model = onnx.load(path)
    except DecodeError as error:
        raise UserError(f"{path} is not an ONNX model, or is truncated; export it again") from error
    except (onnx.checker.ValidationError, OSError) as error:
        raise UserError(f"{path}: {_sentence(error)}") from error
    if not model.graph.node or not model.opset_import:
        raise UserError(
            f"{path} is not an ONNX model, or is truncated: it has no nodes; export it again"
        )
    _check_inputs_and_outputs(path, model)
    _check_domains(path, model)
    model = _at_standard_opset(path, model)
    try:
        onnx.checker.check_model(model, full_check=True)
        return onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise UserError(f"{path} is not a valid ONNX model: {_sentence(error)}") from error


def _sentence(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__


def _check_inputs_and_outputs(path: Path, model: onnx.ModelProto) -> None:
    initialized = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initialized]
    for what, values in (("input", inputs), ("output", list(model.graph.output))):
        if len(values) != 1:
            names = ", ".join(value.name for value in values) or "none"
            raise UserError(
                f"{path} has {len(values)} {what}s ({names}); a model with exactly one is accepted"
            )
        tensor = values[0].type.tensor_type
        if tensor.elem_type != TensorProto.FLOAT:
            found = TensorProto.DataType.Name(tensor.elem_type).lower()
            raise UserError(
                f"{path}: {what} {values[0].name} is {found}; float (float32) is accepted"
            )
        if what == "output":
            continue
        dims = [dim.dim_param or dim.dim_value or "?" for dim in tensor.shape.dim]
        if not tensor.HasField("shape") or not all(isinstance(dim, int) for dim in dims):
            raise UserError(
                f"{path}: {what} {values[0].name} has the dynamic shape "
                f"({', '.join(map(str, dims))}); export it with static shapes and batch 1"
            )
        if dims and dims[0] != 1:
            raise UserError(
                f"{path}: {what} {values[0].name} has batch {dims[0]}; export it with batch 1"
            )


def _check_domains(path: Path, model: onnx.ModelProto) -> None:
    functions = {(function.domain, function.name) for function in model.functions}
    for node in model.graph.node:
        if (
            node.domain not in ("", "ai.onnx", DOMAIN)
            and (node.domain, node.op_type) not in functions
        ):
            raise UserError(
                f"{path}: node {node.name or node.output[0]} is {node.domain}.{node.op_type}, "
                "an op outside standard ONNX; export the model with standard ops"
            )


def _at_standard_opset(path: Path, model: onnx.ModelProto) -> onnx.ModelProto:
    version = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 0)
    if version == STANDARD_OPSET:
        return model
    if not _OLDEST_OPSET <= version <= _NEWEST_OPSET:
        raise UserError(
            f"{path} has opset {version}; opsets {_OLDEST_OPSET} to {_NEWEST_OPSET} are accepted, "
            f"{STANDARD_OPSET} is best"
        )
    try:
        return version_converter.convert_version(model, STANDARD_OPSET)
    except Exception as error:  # the converter raises whatever its C++ side throws
        raise UserError(
            f"{path} has opset {version} and could not be converted to {STANDARD_OPSET} "
            f"({_sentence(error)}); export it with opset {STANDARD_OPSET}"
        ) from error
