"""What a member of the family is, and how it becomes ONNX."""

import ast
import contextlib
import io
import logging
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

BINARY = "binary"
INPUT_IS_REAL = "float: its input is not binarized"
INPUT_HAS_LEVELS = "float: its input takes more than two levels"
INPUT_SCALE_VARIES = "float: the scale of its input varies along the reduction"
WEIGHTS_ARE_REAL = "float: its weights are not binarized"
WEIGHT_SCALE_VARIES = "float: the scale of its weights varies along the reduction"
WEIGHT_IS_ZERO = "float: some of its weights are zero"
SIGN_MEETS_ZERO = "float: its input is a Sign of exact zeros"

SEED = 20
LAYER_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


@dataclass(frozen=True)
class Exporter:
    """One way from torch to ONNX; `hand` means that the member builds its own graph."""

    name: str
    dynamo: bool
    opset: int


DYNAMO = Exporter("dynamo", dynamo=True, opset=20)
DYNAMO_18 = Exporter("dynamo-18", dynamo=True, opset=18)
SCRIPT = Exporter("script", dynamo=False, opset=20)
SCRIPT_17 = Exporter("script-17", dynamo=False, opset=17)
HAND = Exporter("hand", dynamo=False, opset=20)

DYNAMO_ONLY = (DYNAMO, DYNAMO_18)
ALL = (SCRIPT, SCRIPT_17, DYNAMO, DYNAMO_18)

Zeros = Literal["none", "unlikely", "certain"]


@dataclass(frozen=True)
class Member:
    """A small network, and what arithmetic allows of each of its layers.

    Attributes:
        name: unique in the family, a Python identifier.
        build: makes the network and one example input, with weights from torch's generator; use
            `make`, which seeds it and freezes the network.
        expected: by layer name fragment: `binary` where popcounts give the same numbers, otherwise
            `float: ` and the condition that fails. A fragment is a module's path, `block0/fc1`.
        zeros: whether exact zeros reach an activation that is written as Sign, which is 0 there
            and has no bit for it. `none`: no activation is a Sign, or none can be zero.
            `unlikely`: activations are Signs of real numbers, so `binary` in `expected` holds
            under an option that gives sign(0) a bit. `certain`: zeros occur on every input, and
            `expected` is what holds without such an option.
        exporters: those that work.
        graph: the ONNX graph of a network that `build` made, for the exporter HAND.
    """

    name: str
    build: Callable[[], tuple[nn.Module, torch.Tensor]]
    expected: Mapping[str, str]
    zeros: Zeros = "none"
    exporters: tuple[Exporter, ...] = ALL
    graph: Callable[[nn.Module], onnx.ModelProto] | None = None

    def make(self) -> tuple[nn.Module, torch.Tensor]:
        """The network, frozen and in eval mode, and its example input: always the same."""
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(SEED)
            network, example = self.build()
            _settle_norms(network, example)
        return network.eval().requires_grad_(False), example


def _settle_norms(network: nn.Module, example: torch.Tensor) -> None:
    """Give every norm the statistics of some data, and γ of both signs, the first one zero."""
    norms = [m for m in network.modules() if isinstance(m, _BatchNorm)]
    if norms:
        for norm in norms:
            norm.momentum = None
        network.train()(torch.randn(16, *example.shape[1:]))
    for norm in norms:
        norm.weight.normal_()
        norm.weight[0] = 0.0
        norm.bias.normal_(0, 0.5)


def export(member: Member, exporter: Exporter) -> onnx.ModelProto:
    """One member as ONNX; its nodes are named `/module/path/Op`."""
    network, example = member.make()
    if exporter is HAND:
        assert member.graph is not None
        return member.graph(network)
    with _quiet():
        if exporter.dynamo:
            program = torch.onnx.export(
                network, (example,), dynamo=True, opset_version=exporter.opset, verbose=False
            )
            assert program is not None
            model = program.model_proto
            _name_after_modules(model, _layer_before_norms(network, example))
            return model
        buffer = io.BytesIO()
        torch.onnx.export(
            network, (example,), buffer, dynamo=False, opset_version=exporter.opset, verbose=False
        )
        return onnx.load_from_string(buffer.getvalue())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    silent = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(silent):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _layer_before_norms(network: nn.Module, example: torch.Tensor) -> dict[str, str]:
    """By the name of every norm, the layer that ran before it."""
    before: dict[str, str] = {}
    latest = ""

    def note(name: str, module: nn.Module) -> None:
        nonlocal latest
        weight = getattr(module, "weight", None)
        if isinstance(module, _BatchNorm):
            before[name] = latest
        elif isinstance(weight, torch.Tensor) and weight.dim() > 1:
            latest = name

    handles = [
        module.register_forward_hook(lambda module, *_, name=name: note(name, module))
        for name, module in network.named_modules()
    ]
    network(example)
    for handle in handles:
        handle.remove()
    return before


def _name_after_modules(model: onnx.ModelProto, fused: Mapping[str, str]) -> None:
    """Name the nodes as the older exporter does, and drop the notes that quote source files.

    Where a norm was folded into the layer before it, the exporter names the layer after the norm;
    here it keeps its own name.
    """
    seen: dict[str, int] = {}
    for node in model.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "[]")
        module = next((scope for scope in reversed(ast.literal_eval(scopes)[:-1]) if scope), "")
        if node.op_type in LAYER_OPS:
            module = fused.get(module, module)
        name = "/".join(["", *module.split("."), node.op_type]).replace("//", "/")
        seen[name] = seen.get(name, -1) + 1
        node.name = f"{name}_{seen[name]}" if seen[name] else name
        del node.metadata_props[:]


def layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The convolutions and matrix products of a model, in its order."""
    return [node for node in model.graph.node if node.op_type in LAYER_OPS]


def fragments_of(name: str, fragments: Iterable[str]) -> list[str]:
    """Those of `fragments` that stand in a node's name as whole steps of its path.

    The older exporter numbers the calls of a module after the first: `/layer_1/Conv`.
    """
    return [f for f in fragments if re.search(rf"/{re.escape(f)}(_\d+)?/", name)]


def inputs_like(example: torch.Tensor, count: int = 3) -> list[np.ndarray]:
    """Normal numbers in the shape of the example, always the same."""
    generator = np.random.default_rng(SEED)
    return [generator.standard_normal(tuple(example.shape), np.float32) for _ in range(count)]
