"""Small binary networks in the shapes the field uses, with what arithmetic allows of each layer.

Every file stands for an idea and holds a few members; `FAMILY` is all of them. A test that takes
any network iterates over `cases()`.
"""

from . import (
    bi_real,
    bifsmnv2,
    bnn,
    ir_net,
    qonnx,
    react_net,
    real_to_binary,
    scales,
    shapes,
    signs,
    weights,
    xnor_net,
)
from .member import (
    ALL,
    BINARY,
    DYNAMO,
    DYNAMO_18,
    DYNAMO_ONLY,
    HAND,
    LAYER_OPS,
    SCRIPT,
    SCRIPT_17,
    Exporter,
    Member,
    export,
    fragments_of,
    inputs_like,
    layers,
)

__all__ = [
    "ALL",
    "BINARY",
    "DYNAMO",
    "DYNAMO_18",
    "DYNAMO_ONLY",
    "FAMILY",
    "HAND",
    "LAYER_OPS",
    "SCRIPT",
    "SCRIPT_17",
    "Exporter",
    "Member",
    "cases",
    "export",
    "fragments_of",
    "inputs_like",
    "layers",
    "runnable",
]

FAMILY: tuple[Member, ...] = (
    *signs.MEMBERS,
    *weights.MEMBERS,
    *scales.MEMBERS,
    *shapes.MEMBERS,
    *xnor_net.MEMBERS,
    *bi_real.MEMBERS,
    *ir_net.MEMBERS,
    *react_net.MEMBERS,
    *real_to_binary.MEMBERS,
    *bnn.MEMBERS,
    *bifsmnv2.MEMBERS,
    *qonnx.MEMBERS,
)

runnable = qonnx.with_functions


def cases() -> list[tuple[Member, Exporter]]:
    """Every member with every exporter that works for it."""
    return [(member, exporter) for member in FAMILY for exporter in member.exporters]
