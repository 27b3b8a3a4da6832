"""Every convolution and matrix product of a model: popcounts or float, and why."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import onnx

from bicompile.layer_sizes import Shape, Size, may_be_layer, size_of
from bicompile.load import load_model
from bicompile.ops import DOMAIN
from bicompile.passes.graph import LAYER
from bicompile.passes.sign_of_zero import SignOfZero
from bicompile.report import Layer, note_on, read_layers
from bicompile.rewriting import run_passes
from bicompile.zoo import onnx_file

_NOTHING = Size(0, 0)


@dataclass(frozen=True)
class Explained:
    """A convolution, matmul or Gemm of the source model, and what became of it.

    Attributes:
        name: its node's name in the source model.
        op: its node's op, `Conv` or `MatMul`.
        binary: whether it became popcounts.
        looks_binary: whether its weights are binary although it stays float.
        kernel: the op of the domain `bicompile` that computes it; None where it is float.
        planes: how many times it does, once for every ±1 tensor that its input is a sum of.
        products: how many products one of its sums has, where no border is in the way.
        multiply_accumulates: of one run, those with padding among them. Both are 0 where nothing is
            left to compute, and in an If or a Loop, where nothing says how often it runs.
        reason: what it became, or the first condition that failed.
        function: the function of the object that does the work: a microkernel, or a kernel that TVM
            compiles. None where no target is chosen, and where TVM fuses it with others by itself.
    """

    name: str
    op: str
    binary: bool
    looks_binary: bool
    kernel: str | None
    planes: int
    products: int
    multiply_accumulates: int
    reason: str
    function: str | None = None


@dataclass(frozen=True)
class Explanation:
    """The layers of a model, in its order."""

    model: str
    layers: tuple[Explained, ...]

    @property
    def binary_layers(self) -> int:
        """How many became popcounts."""
        return sum(layer.binary for layer in self.layers)

    @property
    def multiply_accumulates(self) -> int:
        """Of all layers."""
        return sum(layer.multiply_accumulates for layer in self.layers)

    @property
    def binary_multiply_accumulates(self) -> int:
        """Of the layers that became popcounts; a layer counts once, however many planes it has."""
        return sum(layer.multiply_accumulates for layer in self.layers if layer.binary)

    def to_json(self) -> dict[str, Any]:
        """What `explain --json` prints and report.json holds: these keys stay, more may come."""
        return {
            "model": self.model,
            "binary_layers": self.binary_layers,
            "multiply_accumulates": self.multiply_accumulates,
            "binary_multiply_accumulates": self.binary_multiply_accumulates,
            "layers": [asdict(layer) for layer in self.layers],
        }


def explain_model(
    source: str, *, width: int | None = None, sign_of_zero: SignOfZero = "strict"
) -> Explanation:
    """Say what a compile would make of every layer of a model (see zoo.onnx_file); build nothing.

    Raises UserError for what is not accepted.
    """
    with onnx_file(source, width) as (path, name):
        traced = load_model(path)
    return explain(name, traced, run_passes(traced, check=False, sign_of_zero=sign_of_zero))


def explain(name: str, traced: onnx.ModelProto, lowered: onnx.ModelProto) -> Explanation:
    """Compare a model as it was loaded with what the passes made of it."""
    decided = {layer.name: layer for layer in read_layers(lowered)}
    left = {node.name for node in lowered.graph.node}
    gone = _gone(traced.graph)
    shapes, kernels = _shapes(traced.graph), _kernels(lowered)
    layers: dict[str, Explained] = {}
    for node in traced.graph.node:
        layers |= {layer.name: layer for layer in _inside(node)}
        size = size_of(node, shapes)
        layer = note_on(node, LAYER) or node.name
        if size is None or layer in layers:
            continue
        decision = decided.get(layer)
        if decision is None and node.name in left:
            reason = f"{node.op_type} is not read: write it as Conv, MatMul or Gemm"
            decision = _float(layer, reason)
        elif decision is None:
            reason = gone.get(node.output[0], "no pass noted what became of it")
            decision = _float(layer, reason)
            size = _NOTHING if node.output[0] in gone else size
        op, sums = kernels.get(layer, (None, 0))
        planes = sums // (math.prod(shapes[node.output[0]]) or 1)
        layers[layer] = _explained(node, decision, size, op, planes)
    return Explanation(name, tuple(layers.values()))


def _explained(
    node: onnx.NodeProto, decision: Layer, size: Size, kernel: str | None = None, planes: int = 0
) -> Explained:
    return Explained(
        name=decision.name,
        op=node.op_type,
        binary=decision.binary,
        looks_binary=decision.looks_binary,
        kernel=kernel,
        planes=planes,
        products=size.products,
        multiply_accumulates=size.multiply_accumulates,
        reason=decision.reason,
    )


def _float(layer: str, reason: str) -> Layer:
    return Layer(layer, False, reason, False)


def _inside(outer: onnx.NodeProto) -> Iterator[Explained]:
    """The layers in the subgraphs of a node: no pass enters them."""
    for attribute in outer.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for node in graph.node:
                yield from _inside(node)
                if may_be_layer(node):
                    layer = f"{outer.name}/{node.name or node.output[0]}"
                    why = f"it is inside {outer.name} ({outer.op_type}), which no pass enters"
                    yield _explained(node, _float(layer, why), _NOTHING)


def _shapes(graph: onnx.GraphProto) -> dict[str, Shape]:
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}
    return shapes | {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}


def _gone(graph: onnx.GraphProto) -> dict[str, str]:
    """Why nothing is left to compute of some values, by their names."""
    computed = {value.name for value in graph.input}
    for node in graph.node:
        if not computed.isdisjoint(_read_by(node)):
            computed.update(node.output)
    needed = {value.name for value in graph.output}
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            needed.update(_read_by(node))
    values = {name for node in graph.node for name in node.output}
    unused = dict.fromkeys(values - needed, "no output depends on it: nothing is left of it")
    return unused | dict.fromkeys(values - computed, "it is constant: nothing is left of it")


def _read_by(node: onnx.NodeProto) -> set[str]:
    """The values that a node reads, those that its subgraphs read among them."""
    graphs = [graph for a in node.attribute for graph in (a.g, *a.graphs)]
    return {*node.input, *(name for g in graphs for inner in g.node for name in _read_by(inner))}


def _kernels(lowered: onnx.ModelProto) -> dict[str, tuple[str, int]]:
    """The binary op of every layer, and how many sums it gives, all planes together."""
    kernels: dict[str, tuple[str, int]] = {}
    shapes = _shapes(lowered.graph)
    for node in lowered.graph.node:
        layer = note_on(node, LAYER)
        if layer and node.domain == DOMAIN:
            _, sums = kernels.get(layer, ("", 0))
            kernels[layer] = (node.op_type, sums + math.prod(shapes[node.output[0]]))
    return kernels
