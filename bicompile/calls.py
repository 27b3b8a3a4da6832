"""The kernel calls of a program, each with the layer that it works for and the least it costs."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import prod
from pathlib import Path
from typing import Any

import onnx

from bicompile.dual_workloads import PLANES
from bicompile.errors import UserError
from bicompile.explain import Explanation
from bicompile.passes.graph import LAYER
from bicompile.program import Call, Program
from bicompile.report import note_on
from bicompile.sign_workloads import LIMITS
from bicompile.workloads import KIND, USED_BYTES

UNIT = 128
"""Binary multiply-accumulates of a unit: what two vectors of 128 bits hold."""

_BINARIZES = ("dual_scale", "threshold")
_PRODUCTS = (
    "popcount_gemm",
    "popcount_epilogue",
    "popcount_threshold",
    "popcount_conv",
    "grouped_popcount_gemm",
)
_FLOAT_LAYERS = ("float_layer", "float_depthwise")


@dataclass(frozen=True)
class KernelCall:
    """One call of a kernel.

    Attributes:
        kernel: its name in the object.
        node: the node of lowered.onnx that it computes; empty for what TVM fused by itself.
        layer: the layer of the source model that it works for; binarizing counts to the layer that
            alone reads the bits. Empty where there is none.
        product: K bits, M outputs, N columns of the binary matrix product that it computes; None
            for another kernel and for a product in groups. The columns of every plane count.
        units: M·N·ceil(K / 128), of all groups; 0 where it is no binary product.
        floor: vector instructions that it needs at least, see `floor` and `float_floor`; 0 where
            it is neither a binary product nor a float layer.
        constant_bytes: of the weights and other constants that it reads.
        moved_bytes: of the tensors that it reads and writes, each once.
    """

    kernel: str
    node: str
    layer: str
    product: tuple[int, int, int] | None
    units: int
    floor: float
    constant_bytes: int
    moved_bytes: int


def units(bits: int, sums: int) -> int:
    """Units of so many sums of K products: K of them take whole vectors."""
    return sums * -(-bits // UNIT)


def floor(bits: int, sums: int, *, is_float: bool) -> float:
    """Vector instructions that so many sums of K products need at least.

    EOR, CNT and an addition for every 16 bytes, of which only those that K needs count; for float
    results one addition and one subtraction of four at once (see microkernels.count_tree).
    """
    return sums * (3 * -(-bits // 8) / 16 + (0.5 if is_float else 0))


def float_floor(products: int, sums: int) -> float:
    """Vector instructions that so many float sums need at least: one FMLA for four products."""
    return sums * products / 4


def describe_calls(
    program: Program, lowered: onnx.ModelProto, explanation: Explanation
) -> list[KernelCall]:
    """The calls of a program, in its order, tied to the layers of its model by node names."""
    of_node = {node.name: note_on(node, LAYER) for node in lowered.graph.node}
    products = {layer.name: layer.products for layer in explanation.layers}
    layers = [of_node.get(call.layer) or call.layer for call in program.calls]
    for index, call in enumerate(program.calls):
        if _kind(program, call) in _BINARIZES:
            readers = {
                layers[other]
                for other, reader in enumerate(program.calls)
                if call.outputs[0] in reader.inputs
            }
            if len(readers) == 1:
                (layers[index],) = readers
    return [
        _described(program, call, layer if layer in products else "", products.get(layer, 0))
        for call, layer in zip(program.calls, layers, strict=True)
    ]


def with_unpacking(calls: Sequence[KernelCall], program: Program) -> list[KernelCall]:
    """The calls of a scheduled program; those that spread constants count to who reads them."""
    waiting, told, spreading = iter(calls), [], 0
    for call in program.calls:
        if program.unpacked.keys() & set(call.outputs):
            told.append(KernelCall(call.kernel, "", "", None, 0, 0, *_bytes_of(program, call)))
            spreading += 1
            continue
        reader = next(waiting)
        for index in range(len(told) - spreading, len(told)):
            told[index] = replace(told[index], node=reader.node, layer=reader.layer)
        told.append(reader)
        spreading = 0
    return told


def name_functions(
    explanation: Explanation, calls: Sequence[KernelCall], scheduled: Program
) -> Explanation:
    """The explanation with the function that computes every layer, in a scheduled program."""
    # What a layer ends with is its product; binarizing and patches come before it.
    kernels = {call.layer: call.kernel for call in calls}
    kernels |= {call.layer: call.kernel for call in calls if call.units}
    named = [
        replace(layer, function=scheduled.functions.get(kernels.get(layer.name, "")))
        for layer in explanation.layers
    ]
    return replace(explanation, layers=tuple(named))


def _described(program: Program, call: Call, layer: str, bits: int) -> KernelCall:
    kernel, kind = program.kernels[call.kernel], _kind(program, call)
    product, whole, least = None, 0, 0.0
    if kind in _PRODUCTS:
        result = program.buffers[call.outputs[0]]
        # Of a layer that nothing explains, all bits of its bytes are products.
        bits = bits or 8 * int(kernel.attrs.get(USED_BYTES, kernel.params[0].ty.shape[1]))
        rows, outputs = (int(dim) for dim in kernel.params[-1].ty.shape)
        outputs = int(kernel.params[1].ty.shape[0]) if LIMITS in kernel.attrs else outputs
        rows *= int(kernel.attrs.get(PLANES, 1))
        product = None if kind == "grouped_popcount_gemm" else (bits, outputs, rows)
        whole = units(bits, rows * outputs)
        least = floor(bits, rows * outputs, is_float=result.dtype == "float32")
    elif kind in _FLOAT_LAYERS:
        *window, _ = (int(dim) for dim in kernel.params[1].ty.shape)
        least = float_floor(prod(window), prod(int(dim) for dim in kernel.params[-1].ty.shape))
    sizes = _bytes_of(program, call)
    return KernelCall(call.kernel, call.layer, layer, product, whole, least, *sizes)


def _bytes_of(program: Program, call: Call) -> tuple[int, int]:
    """Of the constants that a call reads, and of the buffers that it reads and writes."""
    constants = [program.constants[name] for name in call.inputs if name in program.constants]
    moved = [name for name in (*call.inputs, *call.outputs) if name in program.buffers]
    return (
        sum(constant.nbytes for constant in constants),
        sum(program.buffers[name].nbytes for name in dict.fromkeys(moved)),
    )


def _kind(program: Program, call: Call) -> str:
    return str(program.kernels[call.kernel].attrs.get(KIND, ""))


def to_json(calls: Sequence[KernelCall]) -> list[dict[str, Any]]:
    """What report.json holds under `calls`."""
    return [asdict(call) for call in calls]


def read_calls(report: Path) -> list[KernelCall]:
    """The calls that report.json tells; raises UserError where it tells none."""
    try:
        told: list[dict[str, Any]] = json.loads(report.read_text())["calls"]
        shapes = [call.pop("product") for call in told]
        return [
            KernelCall(**call, product=None if shape is None else tuple(shape))
            for call, shape in zip(told, shapes, strict=True)
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{report} tells no kernel calls; compile the model again with this version"
        ) from error
