"""Binary ONNX → program: TVM's importer for standard ops, naive nests for the domain's."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
import onnx
import tvm
import tvm_ffi
from tvm import relax, tirx
from tvm.relax.frontend.onnx import onnx_frontend

from bicompile import workloads
from bicompile.errors import UserError
from bicompile.ops import unpack_bits
from bicompile.program import Buffer, Call, Program

VECTOR_BYTES = 16
"""What a popcount GEMM reads at once: its rows are a multiple of this, their ends clear."""

_LAYER = "layer:"  # a binary kernel's value is named layer:NODE:KIND, and a number if that exists


def lower(model: onnx.ModelProto) -> Program:
    """Lower a model whose nodes are standard ops or ops of the domain `bicompile`.

    Raises UserError naming the node whose op TVM's importer does not know.
    """
    with _domain_converters():
        known = onnx_frontend._get_convert_map()
        for node in model.graph.node:
            if node.op_type not in known:
                raise UserError(
                    f"node {node.name or node.output[0]} is {node.op_type}, an op that cannot be "
                    "lowered; export the model without it"
                )
        try:
            module = onnx_frontend.from_onnx(model, keep_params_in_input=False)
        except tvm.error.OpNotImplemented as error:
            raise UserError(
                f"the model cannot be lowered: {str(error).splitlines()[-1]}"
            ) from error
    module = tvm.transform.Sequential(
        [
            # A reshape of a row-major buffer is another name for it, not a kernel.
            relax.transform.LegalizeOps(skip_ops=["relax.reshape"]),
            relax.transform.AnnotateTIROpPattern(),
            relax.transform.FoldConstant(),
            relax.transform.FuseOps(),
            relax.transform.FuseTIR(),
            relax.transform.DeadCodeElimination(),
        ]
    )(module)
    return _Reader(module).program()


@contextmanager
def _domain_converters() -> Iterator[None]:
    """Teach TVM's importer the domain; its table of ops is private, and it ignores domains."""
    original = onnx_frontend._get_convert_map
    onnx_frontend._get_convert_map = lambda: {**original(), **_CONVERTERS}
    try:
        yield
    finally:
        onnx_frontend._get_convert_map = original


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in value.ty.shape)


def _call(
    builder: Any,
    nest: tirx.PrimFunc,
    inputs: list[Any],
    shape: tuple[int, ...],
    dtype: str,
    layer: str,
) -> Any:
    kind = str(nest.attrs[workloads.KIND])
    result = relax.call_tir(
        builder.add_func(nest, kind), inputs, out_ty=relax.TensorType(shape, dtype)
    )
    return builder.emit(result, name_hint=f"{_LAYER}{layer}:{kind}")


def _reshape(builder: Any, value: Any, shape: tuple[int, ...]) -> Any:
    return value if _shape(value) == shape else builder.emit(relax.op.reshape(value, shape))


class _Threshold(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        x, theta = inputs
        *leading, channels = _shape(x)
        rows = prod(leading)
        nest = workloads.threshold(rows, channels, greater=bool(attributes["greater"]))
        flat = _reshape(builder, x, (rows, channels))
        row_bytes = -(-channels // 8)
        name = attributes["tvm_custom"]["name"]
        bits = _call(builder, nest, [flat, theta], (rows, row_bytes), "uint8", name)
        return _reshape(builder, bits, (*leading, row_bytes))


class _BinaryLinear(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        bits, weights = inputs[0], inputs[1].value.numpy()
        *leading, row_bytes = _shape(bits)
        rows, outputs = prod(leading), weights.shape[0]
        popcount = _popcount(
            builder,
            bits,
            weights,
            image=(rows, 1, row_bytes),
            kernel=(1, 1),
            output=(rows, 1),
            window=((1, 1), (0, 0), (1, 1)),
            name=attributes["tvm_custom"]["name"],
        )
        products = np.asarray(int(attributes["channels"]), np.int32)
        return _dot(_reshape(builder, popcount, (*leading, outputs)), products)


class _BinaryConv2d(onnx_frontend.OnnxOpConverter):
    @classmethod
    def _impl_v1(cls, builder: Any, inputs: Any, attributes: Any, _parameters: Any) -> Any:
        bits, weights = inputs[0], inputs[1].value.numpy()
        batch, height, width, pixel_bytes = _shape(bits)
        outputs, kh, kw, _ = weights.shape
        channels = int(attributes["channels"])
        strides, pads, dilations = (attributes[n] for n in ("strides", "pads", "dilations"))
        out_height = (height + pads[0] + pads[2] - (kh - 1) * dilations[0] - 1) // strides[0] + 1
        out_width = (width + pads[1] + pads[3] - (kw - 1) * dilations[1] - 1) // strides[1] + 1
        popcount = _popcount(
            builder,
            bits,
            weights,
            image=(height, width, pixel_bytes),
            kernel=(kh, kw),
            output=(out_height, out_width),
            window=(strides, pads[:2], dilations),
            name=attributes["tvm_custom"]["name"],
        )
        # A padded tap is clear bits in the row: it counted the set bits of the weights there.
        inside = _taps_inside((height, width), (out_height, out_width), (kh, kw), attributes)
        signs = unpack_bits(weights, channels).reshape(outputs, kh * kw, channels)
        outside_sum = (~inside).astype(np.int32) @ signs.sum(axis=2, dtype=np.int32).T
        shape = (batch, out_height, out_width, outputs)
        products = np.asarray(kh * kw * channels, np.int32)
        if outside_sum.any():
            products = products + outside_sum.reshape(shape)
        return _dot(_reshape(builder, popcount, shape), products)


def _dot(popcount: Any, products: np.ndarray) -> Any:
    """products − 2·popcount: what is left of b·w after the counting."""
    twice = relax.op.add(popcount, popcount)
    return relax.op.subtract(relax.const(products), twice)


def _taps_inside(
    size: tuple[int, int], output: tuple[int, int], kernel: tuple[int, int], attributes: Any
) -> np.ndarray:
    """Whether a tap lies inside the image: (H'·W', kh·kw) bool."""

    def along(axis: int) -> np.ndarray:
        step, pad, dilation = (attributes[n][axis] for n in ("strides", "pads", "dilations"))
        at = np.arange(output[axis])[:, None] * step + np.arange(kernel[axis]) * dilation - pad
        inside: np.ndarray = (at >= 0) & (at < size[axis])
        return inside

    rows, columns = along(0), along(1)
    both: np.ndarray = rows[:, None, :, None] & columns[None, :, None, :]
    return both.reshape(output[0] * output[1], kernel[0] * kernel[1])


def _popcount(
    builder: Any,
    bits: Any,
    weights: np.ndarray,
    *,
    image: tuple[int, int, int],
    kernel: tuple[int, int],
    output: tuple[int, int],
    window: tuple[Any, Any, Any],
    name: str,
) -> Any:
    """Differing bits between every patch and every filter: (H'·W', O) int32."""
    outputs, used = weights.shape[0], kernel[0] * kernel[1] * image[2]
    rows = output[0] * output[1]
    row_bytes = -(-used // VECTOR_BYTES) * VECTOR_BYTES
    strides, pads, dilations = window
    if kernel == (1, 1) and row_bytes == used and output == image[:2] and not any(pads):
        operand = _reshape(builder, bits, (rows, row_bytes))
    else:
        nest = workloads.patches(
            image,
            kernel,
            output,
            strides=strides,
            pads=pads,
            dilations=dilations,
            row_bytes=row_bytes,
        )
        pixels = _reshape(builder, bits, (image[0], image[1] * image[2]))
        operand = _call(builder, nest, [pixels], (rows, row_bytes), "uint8", name)
    padded = np.zeros((outputs, row_bytes), np.uint8)
    padded[:, :used] = weights.reshape(outputs, used)
    nest = workloads.popcount_gemm(rows, outputs, row_bytes, used_bytes=used)
    inputs = [operand, relax.const(padded)]
    return _call(builder, nest, inputs, (rows, outputs), "int32", name)


_CONVERTERS = {
    "Threshold": _Threshold,
    "BinaryLinear": _BinaryLinear,
    "BinaryConv2d": _BinaryConv2d,
}


class _Reader:
    """Reads the calls out of a fused Relax module."""

    def __init__(self, module: tvm.IRModule) -> None:
        self._module = module
        self._main = module["main"]
        self._names: dict[Any, str] = {}
        self._buffers: dict[str, Buffer] = {}
        self._constants: dict[str, np.ndarray] = {}
        self._constant_names: dict[tuple[str, bytes], str] = {}
        self._kernels: dict[str, tirx.PrimFunc] = {}
        self._kernel_names: dict[Any, str] = {}
        self._calls: list[Call] = []

    def program(self) -> Program:
        (parameter,) = self._main.params
        self._names[parameter] = self._buffer("input", parameter)
        for block in self._main.body.blocks:
            for binding in block.bindings:
                self._read(binding.var, binding.value)
        result = self._main.body.body
        output = self._argument(result)
        if output == "input" or output in self._constants:
            raise UserError("the model computes nothing: its output is its input or a constant")
        self._buffer(output, result)  # it may be a reshape of what the last kernel wrote
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
        elif op == tvm.ir.Op.get("relax.call_tir"):
            name = self._buffer(f"b{len(self._buffers)}", variable)
            hint = variable.name_hint if hasattr(variable, "name_hint") else variable.name
            inputs = tuple(self._argument(argument) for argument in value.args[1])
            layer = hint.removeprefix(_LAYER).rpartition(":")[0] if hint.startswith(_LAYER) else ""
            self._calls.append(Call(self._kernel(value.args[0]), inputs, (name,), layer))
            self._names[variable] = name
        else:
            raise UserError(
                "the model cannot be lowered: it needs "
                f"{getattr(op, 'name', type(value).__name__)}, which has no kernel; "
                "export it without the op that stands for this"
            )

    def _buffer(self, name: str, variable: Any) -> str:
        self._buffers[name] = Buffer(_shape(variable), str(variable.ty.dtype))
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
            name = f"{variable.name_hint[:40].rstrip('_')}_{len(self._kernels)}"
            self._kernel_names[digest] = name
            self._kernels[name] = function
        return self._kernel_names[digest]
