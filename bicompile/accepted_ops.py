"""Which ops a model may have: standard ones that give the same at every run, and come to an end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx
import onnx_ir as ir

from bicompile.errors import UserError
from bicompile.ops import DOMAIN, FUNCTIONS, VERSION, function_protos
from bicompile.passes.remove_unused import remove_unused

STANDARD = ("", "ai.onnx")
OURS = [(DOMAIN, function.name) for function in FUNCTIONS]

_LOOPS = ("Loop", "Scan")
_RANDOM = (
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
)  # fmt: skip
_MOST_NODES = 2**18


def graphs_in(body: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Any]:
    """A graph or the body of a function, and all graphs in its nodes' attributes."""
    waiting: list[Any] = [body]
    while waiting:
        yield (at := waiting.pop())
        for node in at.node:
            for attribute in node.attribute:
                waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def check_ops(path: Path, model: onnx.ModelProto) -> None:
    """Raise UserError for the first node that is not accepted."""
    functions = {(function.domain, function.name) for function in model.functions}
    for node in (node for graph in graphs_in(model.graph) for node in graph.node):
        op = (node.domain, node.op_type)
        if op not in functions and op not in OURS:
            _check_op(path, node)


def _check_op(path: Path, node: onnx.NodeProto) -> None:
    said = f"{path}: node {node.name or '(unnamed)'} is "
    if node.domain not in STANDARD:
        raise UserError(
            f"{said}{node.domain}.{node.op_type}, an op outside standard ONNX; "
            "export the model with standard ops"
        )
    if not onnx.defs.has(node.op_type):
        raise UserError(
            f"{said}{node.op_type}, which is not an op of ONNX; export the model with standard ops"
        )
    if node.op_type in _LOOPS:
        raise UserError(f"{said}{node.op_type}; export the model with its loops unrolled")
    # The third input of a Dropout says whether it drops anything.
    if node.op_type in _RANDOM or (node.op_type == "Dropout" and any(node.input[2:])):
        raise UserError(
            f"{said}{node.op_type}, which may give something else at every run; "
            "export the model in eval mode"
        )


def check_functions(path: Path, model: onnx.ModelProto) -> None:
    """Raise UserError where functions do not end, or give an op of the domain another meaning."""
    _check_their_size(path, model)
    theirs = [function for function in model.functions if function.domain == DOMAIN]
    if theirs:
        ours = _meanings(function_protos())
        for name, meaning in _meanings(theirs).items():
            if ours.get(name) != meaning:
                raise UserError(
                    f"{path}: its function {DOMAIN}.{name} is not the one of version {VERSION}; "
                    "give the model that it was compiled from"
                )


def _check_their_size(path: Path, model: onnx.ModelProto) -> None:
    called = {(function.domain, function.name): _ops(function) for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}
    while waiting := [name for name in called if name not in sizes]:
        ready = [n for n in waiting if all(op in sizes or op not in called for op in called[n])]
        if not ready:
            raise UserError(
                f"{path}: its function {'.'.join(waiting[0])} calls itself; "
                "export the model without functions"
            )
        sizes |= {name: sum(sizes.get(op, 1) for op in called[name]) for name in ready}
    nodes = sum(sizes.get(op, 1) for op in _ops(model.graph))
    if sizes and nodes > _MOST_NODES:
        raise UserError(
            f"{path} has {nodes} nodes once its functions are inlined; at most {_MOST_NODES} are "
            "accepted, so export it without functions"
        )


def _ops(body: onnx.GraphProto | onnx.FunctionProto) -> list[tuple[str, str]]:
    return [(node.domain, node.op_type) for graph in graphs_in(body) for node in graph.node]


def _meanings(functions: list[onnx.FunctionProto]) -> dict[str, Any]:
    """What every function computes, whatever tools have noted about it."""
    graph = ir.Graph([], [], nodes=[], opset_imports={"": 1})
    model = ir.Model(graph, ir_version=10, functions=[ir.from_proto(f) for f in functions])
    remove_unused(model)
    return {
        function.name: (
            function.domain,
            [value.name for value in (*function.inputs, *function.outputs)],
            sorted(function.attributes),
            [_without_notes(ir.to_proto(node)) for node in function],
        )
        for function in model.functions.values()
    }


def _without_notes(node: onnx.NodeProto) -> bytes:
    node.name = node.doc_string = ""
    del node.metadata_props[:]
    return bytes(node.SerializeToString(deterministic=True))
