"""Binary ONNX → program: TVM's importer for standard ops, naive nests for the domain's."""

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend

from bicompile.convolution import layer_of, name_of
from bicompile.epilogue_converters import CONVERTERS
from bicompile.errors import UserError
from bicompile.float_converters import CONVERTERS as FLOAT_CONVERTERS
from bicompile.fuse import fuse
from bicompile.fuse_floats import fuse_floats
from bicompile.nodes import Nodes
from bicompile.ops import DOMAIN
from bicompile.program import Buffer, Call, Program
from bicompile.reorder import reorder
from bicompile.smaller import is_smaller
from bicompile.workloads import KIND


def lower(model: onnx.ModelProto) -> Program:
    """Lower a model whose nodes are standard ops or ops of the domain `bicompile`.

    Raises UserError naming the node whose op TVM's importer does not take, or a convolution with
    weights that are not finite.
    """
    _check_finite(model.graph)
    with _domain_converters():
        model = fuse_floats(fuse(reorder(model)))
        known = onnx_frontend._get_convert_map()
        for node in model.graph.node:
            if node.op_type not in known:
                raise UserError(
                    f"node {node.name or node.output[0]} is {node.op_type}, an op that cannot be "
                    "lowered; export the model without it"
                )
        with redirect_stdout(io.StringIO()):  # the importer prints what it stops at
            module = onnx_frontend.from_onnx(model, keep_params_in_input=False)
    program = _last_named(_Reader(_legalized(module)).program(), model)
    return replace(program, compact=is_smaller(model))


def _legalized(module: tvm.IRModule) -> tvm.IRModule:
    """Relax ops → fused calls of TIR kernels."""
    steps = [
        # A reshape of a row-major buffer is another name for it, not a kernel.
        relax.transform.LegalizeOps(skip_ops=["relax.reshape"]),
        relax.transform.AnnotateTIROpPattern(),
        relax.transform.FoldConstant(),
        relax.transform.FuseOps(),
        relax.transform.FuseTIR(),
        relax.transform.DeadCodeElimination(),
    ]
    try:
        return tvm.transform.Sequential(steps)(module)
    except Exception as error:  # TVM's of any kind: what it imports it may not be able to compute
        why = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"the model cannot be lowered ({why}); export it without the op that stands for this"
        ) from error


def _check_finite(graph: onnx.GraphProto) -> None:
    """Infinity times a padding of 0 is NaN where padding is computed; onnxruntime leaves it out."""
    nodes = Nodes(graph)
    for node in graph.node:
        if node.op_type != "Conv" or node.domain == DOMAIN:
            continue
        weights = nodes.constant(node.input[1])
        if weights is not None and not np.isfinite(weights).all():
            raise UserError(
                f"node {node.name or node.output[0]} is Conv with weights that are not finite, "
                "and what those give is not settled at a padded border; train the model again"
            )


def _last_named(program: Program, model: onnx.ModelProto) -> Program:
    """Tie a binary kernel that makes the output to its node: that value's name gets lost."""
    last = program.calls[-1]
    if last.layer or KIND not in program.kernels[last.kernel].attrs:
        return program
    output = model.graph.output[0].name
    (name,) = (node.name for node in model.graph.node if output in node.output)
    return replace(program, calls=(*program.calls[:-1], replace(last, layer=name)))


@contextmanager
def _domain_converters() -> Iterator[None]:
    """Teach TVM's importer the domain; its table of ops is private, and it ignores domains."""
    original = onnx_frontend._get_convert_map
    standard = {op: _Standard(op, converter) for op, converter in original().items()}
    onnx_frontend._get_convert_map = lambda: {**standard, **CONVERTERS, **FLOAT_CONVERTERS}
    try:
        yield
    finally:
        onnx_frontend._get_convert_map = original


class _Standard:
    """A converter of the importer: where it stops, the node is told."""

    def __init__(self, op: str, converter: Any) -> None:
        self._op, self._converter = op, converter

    def get_converter(self, opset: int) -> Any:
        def convert(builder: Any, inputs: Any, attributes: Any, parameters: Any) -> Any:
            try:
                function = self._converter.get_converter(opset)
                converted = function(builder, inputs, attributes, parameters)
                is_one = isinstance(converted, relax.Expr)
                return builder.normalize(converted) if is_one else converted
            except Exception as error:  # TVM's of any kind, and Python's: it takes much for granted
                why = (str(error).splitlines() or [""])[0].rstrip(".") or type(error).__name__
                raise UserError(
                    f"node {name_of(attributes)} is {self._op} in a form that cannot be lowered "
                    f"({why}); export the model without it"
                ) from error

        return convert


class _Reader:
    """Reads the calls out of a fused Relax module."""

    def __init__(self, module: tvm.IRModule) -> None:
        self._module = module
        self._main = module["main"]
        self._names: dict[Any, str] = {}
        self._tuples: dict[Any, list[str]] = {}
        self._buffers: dict[str, Buffer] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._constant_names: dict[tuple[str, bytes], str] = {}
        self._kernels: dict[str, tirx.PrimFunc] = {}
        self._kernel_names: dict[Any, str] = {}
        self._calls: list[Call] = []

    def program(self) -> Program:
        (parameter,) = self._main.params
        self._names[parameter] = self._buffer("input", parameter.ty)
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._read(binding.var, binding.value)
        result = self._main.body.body
        output = self._argument(result)
        if output == "input" or output in self._constants:
            raise UserError("the model computes nothing: its output is its input or a constant")
        self._buffer(output, result.ty)  # it may be a reshape of what the last kernel wrote
        return Program(
            self._kernels, self._buffers, self._constants, tuple(self._calls), "input", output
        )

    def _read(self, variable: Any, value: Any) -> None:
        if isinstance(value, relax.Var | tvm.ir.GenericConst):
            self._names[variable] = self._argument(value)
            return
        op = getattr(value, "op", None)
        if op == tvm.ir.Op.get("relax.reshape"):
            self._names[variable] = self._argument(value.args[0])
        elif isinstance(value, relax.TupleGetItem):
            self._names[variable] = self._tuples[value.tuple_value][value.index]
        elif op == tvm.ir.Op.get("relax.call_tir"):
            types = getattr(variable.ty, "fields", [variable.ty])
            names = [self._buffer(f"b{len(self._buffers)}", kind) for kind in types]
            hint = variable.name_hint if hasattr(variable, "name_hint") else variable.name
            inputs = tuple(self._argument(argument) for argument in value.args[1])
            call = Call(self._kernel(value.args[0]), inputs, tuple(names), layer_of(hint))
            self._calls.append(call)
            if len(names) == 1:
                self._names[variable] = names[0]
            self._tuples[variable] = names
        else:
            raise UserError(
                "the model cannot be lowered: it needs "
                f"{getattr(op, 'name', type(value).__name__)}, which has no kernel; "
                "export it without the op that stands for this"
            )

    def _buffer(self, name: str, kind: Any) -> str:
        self._buffers[name] = Buffer(tuple(int(dim) for dim in kind.shape), str(kind.dtype))
        return name

    def _argument(self, value: Any) -> str:
        if not isinstance(value, tvm.ir.GenericConst):
            return self._names[value]
        array = value.value.numpy()
        key = (str(array.dtype), array.tobytes())  # a kernel knows the shape by itself
        if key not in self._constant_names:
            name = f"c{len(self._constants)}"
            self._constant_names[key] = name
            self._constants[name] = array
        return self._constant_names[key]

    def _kernel(self, variable: Any) -> str:
        """Name a kernel; structurally equal ones get one name."""
        function = self._module[variable]
        digest = tvm_ffi.structural_hash(function)
        if digest not in self._kernel_names:
            hint = variable.name_hint[:40].rstrip("_")
            # TVM writes scatters as opaque blocks on buffers that it cannot place.
            if any(isinstance(buffer.ty.elem_offset, tvm.ir.Var) for buffer in function.params):
                raise UserError(
                    f"the model cannot be lowered: TVM has no loop nest for {hint}; export it "
                    "without the op that stands for this"
                )
            name = f"{hint}_{len(self._kernels)}"
            self._kernel_names[digest] = name
            self._kernels[name] = function
        return self._kernel_names[digest]
