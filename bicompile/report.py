"""What became of every layer: read from the decisions that passes left on the nodes."""

from dataclasses import dataclass

import onnx

from bicompile.passes.graph import BINARY, DECISION, LAYER, LOOKS_BINARY


@dataclass(frozen=True)
class Layer:
    """A convolution, matmul or Gemm of the source model.

    Attributes:
        name: its node's name in the source model.
        binary: whether it became popcounts.
        reason: how, or the first condition that failed.
        looks_binary: whether its weights are ±1 although it stays float.
    """

    name: str
    binary: bool
    reason: str
    looks_binary: bool


def read_layers(model: onnx.ModelProto) -> list[Layer]:
    """The layers of a lowered model, in its order; the planes of one binary layer count once."""
    layers: dict[str, Layer] = {}
    for node in model.graph.node:
        kind, _, reason = note_on(node, DECISION).partition(": ")
        if not reason:
            continue
        name = note_on(node, LAYER) or node.name
        layers.setdefault(name, Layer(name, kind == BINARY, reason, kind == LOOKS_BINARY))
    return list(layers.values())


def note_on(node: onnx.NodeProto, key: str) -> str:
    """What a pass noted on a node under a metadata key; empty where none did."""
    return next((note.value for note in node.metadata_props if note.key == key), "")
