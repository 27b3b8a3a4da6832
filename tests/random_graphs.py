"""Random binary networks, built node by node, and which of their layers must become binary."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, TypeVar

import numpy as np
import onnx
from graphs import dual_scale
from hypothesis import strategies as st
from networks import model_of
from onnx import TensorProto, helper

from bicompile.passes.sign_of_zero import SignOfZero

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]

CHANNELS = st.integers(1, 10) | st.sampled_from([15, 16, 17, 33, 65])
_SPATIAL = st.integers(1, 7)

# Where numbers are exact, so is every sum: ties occur, and nothing may differ.
_EXACT = {
    "threshold": [-1.5, -1, -0.5, 0, 0.5, 1, 2],
    "scale": [0.25, 0.5, 1, 2],
    "slope": [-2, -0.5, 1],
    "gamma": [-2, -1, -0.5, 0, 0.5, 1, 2],
    "variance": [0.25, 1, 4],
}


@dataclass(frozen=True)
class RandomGraph:
    """A model with one input x and one output y.

    Attributes:
        model: opset 20, static shapes.
        meant: the model with what `sign_of_zero` says in place of every Sign without a bit.
        binary: by layer name, whether it must become binary; None where both are right.
        exact: whether every number is a multiple of a power of two, so that no sum is rounded.
        sign_of_zero: the option to compile it with.
    """

    model: onnx.ModelProto
    meant: onnx.ModelProto
    binary: dict[str, bool | None]
    exact: bool
    sign_of_zero: SignOfZero

    def inputs(self, count: int) -> list[np.ndarray]:
        """Multiples of a half, zeros of both signs among them; normal numbers where not exact."""
        generator = np.random.default_rng(len(self.model.graph.node))
        shape = [dim.dim_value for dim in self.model.graph.input[0].type.tensor_type.shape.dim]
        if not self.exact:
            return [generator.standard_normal(shape).astype(np.float32) for _ in range(count)]
        halves = [generator.integers(-4, 5, shape) / 2 for _ in range(count)]
        minus_zeros = [np.where(x == 0, generator.choice([0.0, -0.0], shape), x) for x in halves]
        return [x.astype(np.float32) for x in minus_zeros]


@st.composite
def random_graphs(draw: Draw[Any]) -> RandomGraph:
    """One to three layers with whatever people put around them."""
    spatial = draw(st.integers(0, 2))
    shape = (1, draw(CHANNELS), *(draw(_SPATIAL) for _ in range(spatial)))
    made = _Graph(draw, shape)
    for index in range(draw(st.integers(1, 3))):
        made.layer(f"layer{index}", is_first=index == 0)
    return made.finished()


class _Graph:
    def __init__(self, draw: Draw[Any], shape: tuple[int, ...]) -> None:
        self.draw = draw
        self.random = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.exact: bool = draw(st.booleans())
        self.sign_of_zero: SignOfZero = draw(st.sampled_from(["strict", "plus", "minus"]))
        self.input_shape = shape
        self.at, self.shape = "x", shape
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {
            name: np.float32(value)
            for name, value in {"zero": 0, "one": 1, "minus": -1, "two": 2, "half": 0.5}.items()
        }
        self.weights: dict[tuple[int, ...], str] = {}
        self.binary: dict[str, bool | None] = {}
        self.plain_signs: set[str] = set()

    def finished(self) -> RandomGraph:
        self.add("Identity", [self.at], to="y")
        model, meant = (
            model_of(nodes, self.constants, x=self.input_shape, y=self.shape)
            for nodes in (self.nodes, [n for node in self.nodes for n in self.meant(node)])
        )
        return RandomGraph(model, meant, self.binary, self.exact, self.sign_of_zero)

    def meant(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.sign_of_zero == "strict" or node.output[0] not in self.plain_signs:
            return [node]
        (to,), comparison = node.output, {"plus": "GreaterOrEqual", "minus": "Greater"}
        return [
            helper.make_node(comparison[self.sign_of_zero], [*node.input, "zero"], [f"{to}_bit"]),
            helper.make_node("Where", [f"{to}_bit", "one", "minus"], [to]),
        ]

    def layer(self, name: str, *, is_first: bool) -> None:
        """An activation, a layer that takes it, perhaps another, and what comes after."""
        before, before_shape = self.at, self.shape
        activation, may_be_binary = self.activation(name, is_first=is_first)
        sums = [self.product(f"{name}a", activation, before_shape, may_be_binary)]
        if self.sometimes():  # the chain is used twice
            sums.append(self.product(f"{name}b", activation, before_shape, may_be_binary))
        self.at, self.shape = sums[0]
        for value, shape in sums[1:]:
            if shape == self.shape:
                self.at = self.add("Add", [self.at, value])
        if self.sometimes():
            self.batch_norm(name)
        if self.sometimes():
            slope = self.numbers("scale", self.per_channel())
            self.at = self.add("PRelu", [self.at, self.constant(f"{name}_slope", slope)])
        if self.shape == before_shape and self.sometimes():
            self.at = self.add("Add", [self.at, before])
        if self.shape == before_shape and may_be_binary and self.sometimes():
            self.at = self.add("Max", [self.at, activation])

    def activation(self, name: str, *, is_first: bool) -> tuple[str, bool | None]:
        """What binarizes; with whether the layers that take it must become binary."""
        forms = ["comparison", "comparison", "Sign", "double sign", "dual scale"]
        # What is not the first layer's input has too many bits to be scaled exactly.
        form = self.draw(st.sampled_from(forms[: 5 if is_first or not self.exact else 4]))
        shape = self.draw(st.sampled_from([(), self.per_channel()]))
        theta = self.constant(f"{name}_theta", self.numbers("threshold", shape))
        must: bool | None = True
        if form == "dual scale":
            signed = self.dual_scale(name, theta)
        elif form == "Sign":
            signed = self.add("Sign", [self.add("Sub", [self.at, theta])])
            self.plain_signs.add(signed)
            # Where θ is never met, a Sign has a bit for everything; that may be noticed or not.
            must = None if self.sign_of_zero == "strict" else True
        elif form == "double sign":
            sign = self.add("Sign", [self.add("Sub", [self.at, theta])])
            signed = self.add("Sign", [self.add("Add", [sign, "half"])])
        else:
            signed = self.comparison(theta)
        if form != "dual scale" and self.sometimes():
            signed = self.scaled(name, signed)
        return signed, must

    def comparison(self, theta: str) -> str:
        op = self.draw(st.sampled_from(_COMPARISONS))
        how = self.draw(st.sampled_from(["where", "not", "twice", "half"]))
        x = self.at
        if self.sometimes():  # α·(x − θ) against zero, α of either sign
            alpha = self.constant(f"alpha{len(self.nodes)}", self.numbers("slope"))
            x = self.add("Mul", [alpha, self.add("Sub", [x, theta])])
            theta = "zero"
        bits = self.add(op, [x, theta])
        if how == "where":
            return self.add("Where", [bits, "one", "minus"])
        if how == "not":
            return self.add("Where", [self.add("Not", [bits]), "minus", "one"])
        number = self.add("Cast", [bits], to_type=TensorProto.FLOAT)
        if how == "twice":
            return self.add("Sub", [self.add("Mul", [number, "two"]), "one"])
        return self.add("Sub", [number, "half"])

    def dual_scale(self, name: str, theta: str) -> str:
        """The sum of two signs; exact where the mean of |r| is over a power of two."""
        axes = list(range(1, len(self.shape)))
        count = prod(self.shape[axis] for axis in axes)
        self.exact = self.exact and count & (count - 1) == 0
        to = f"{name}_dual"
        renamed = {"theta": theta, "zero": "zero", "one": "one", "minus": "minus"}
        for label in ("theta1", "theta2", "alpha"):
            kind = "slope" if label == "alpha" else "threshold"
            renamed[label] = self.constant(f"{to}_{label}", self.numbers(kind))
        renamed["axes"] = self.constant(f"{to}_axes", np.array(axes))
        for node in dual_scale(self.at, to, "axes"):
            inputs = [renamed.get(name, name) for name in node.input]
            del node.input[:]
            node.input.extend(inputs)
            self.nodes.append(node)
        return to

    def scaled(self, name: str, signed: str) -> str:
        """σ·b with one σ for all: a number, or the mean of |x| where that is exact."""
        if self.exact or self.sometimes():
            return self.add("Mul", [signed, self.constant(f"{name}_sigma", self.numbers("scale"))])
        axes = self.constant(f"{name}_axes", np.arange(1, len(self.shape)))
        mean = self.add("ReduceMean", [self.add("Abs", [self.at]), axes])
        return self.add("Mul", [signed, mean])

    def product(
        self, name: str, activation: str, shape: tuple[int, ...], must: bool | None
    ) -> tuple[str, tuple[int, ...]]:
        """A layer of ±1 weights, of which one scale in ten varies along the reduction."""
        rank = len(shape) - 2
        if rank <= 0:
            return self.linear(name, activation, shape, must)
        if self.sometimes():  # a border of bits, or of something else
            around = self.constant(f"{name}_around", np.array([0, 0, *[1] * rank] * 2))
            activation = self.add(
                "Pad", [activation, around, self.draw(st.sampled_from(["one", "minus"]))]
            )
            shape, must = (*shape[:2], *(size + 2 for size in shape[2:])), None
        kernel, strides, dilations, pads = [], [], [], []
        output = []
        for size in shape[2:]:
            before, after = self.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
            reach = size + before + after
            k = self.draw(st.integers(1, min(3, reach)))
            dilation = self.draw(st.integers(1, (reach - 1) // max(k - 1, 1) if k > 1 else 2))
            stride = self.draw(st.integers(1, 3))
            kernel.append(k)
            dilations.append(dilation)
            strides.append(stride)
            pads.append((before, after))
            output.append((reach - (k - 1) * dilation - 1) // stride + 1)
        channels = shape[1]
        group = self.draw(st.sampled_from([g for g in (1, 2, 3, channels) if channels % g == 0]))
        outputs = group * self.draw(st.integers(1, 3)) if group > 1 else self.draw(CHANNELS)
        weights, factors = self.signs((outputs, channels // group, *kernel))
        inputs = [activation, weights]
        if self.sometimes():
            inputs.append(self.constant(f"{name}_bias", self.numbers("threshold", (outputs,))))
        self.nodes.append(
            helper.make_node(
                "Conv",
                inputs,
                [name],
                name,
                strides=strides,
                dilations=dilations,
                group=group,
                pads=[*(p[0] for p in pads), *(p[1] for p in pads)],
            )
        )
        self.binary[name] = must if factors else False
        return name, (1, outputs, *output)

    def linear(
        self, name: str, activation: str, shape: tuple[int, ...], must: bool | None
    ) -> tuple[str, tuple[int, ...]]:
        outputs = self.draw(CHANNELS)
        transposed = self.sometimes()
        size = (outputs, shape[-1]) if transposed else (shape[-1], outputs)
        weights, factors = self.signs(size, outputs_at=0 if transposed else 1)
        if transposed or self.sometimes():
            alpha = float(self.numbers("scale"))
            node = helper.make_node(
                "Gemm", [activation, weights], [name], name, transB=int(transposed), alpha=alpha
            )
        else:
            node = helper.make_node("MatMul", [activation, weights], [name], name)
        self.nodes.append(node)
        self.binary[name] = must if factors else False
        return name, (*shape[:-1], outputs)

    def signs(self, shape: tuple[int, ...], outputs_at: int = 0) -> tuple[str, bool]:
        """±1 times a scale, those of an earlier layer where the shape is the same."""
        key = (outputs_at, *shape)
        if key in self.weights and self.sometimes():
            name = self.weights[key]
            return name, not name.startswith("varying")
        signs = self.random.choice(np.float32([-1, 1]), shape)
        others = prod(shape) // shape[outputs_at]
        varies = others > 1 and self.draw(st.integers(0, 9)) == 0
        kind = self.draw(st.sampled_from(["one", "number", "per output"]))
        if varies:
            flat = np.moveaxis(signs, outputs_at, 0)
            flat[0, ...].flat[0] = 3
        if kind != "one":
            sizes = [1] * len(shape)
            if kind == "per output":
                sizes[outputs_at] = shape[outputs_at]
            signs = signs * self.numbers("scale", tuple(sizes))
        name = self.constant(f"{'varying' if varies else 'weights'}{len(self.nodes)}", signs)
        self.weights[key] = name
        return name, not varies

    def batch_norm(self, name: str) -> None:
        """γ of both signs, and zero."""
        channels = (self.shape[1],)
        kinds = {"gamma": "gamma", "beta": "threshold", "mean": "threshold", "var": "variance"}
        operands = [
            self.constant(f"{name}_{label}", self.numbers(kind, channels))
            for label, kind in kinds.items()
        ]
        self.at = self.add("BatchNormalization", [self.at, *operands], epsilon=0.0)

    def numbers(self, kind: str, shape: Sequence[int] = ()) -> np.ndarray:
        """Random float32 numbers that thresholds, scales, γ or variances may be."""
        if self.exact:
            return self.random.choice(np.float32(_EXACT[kind]), shape)
        found = self.random.standard_normal(shape)
        if kind in ("scale", "variance"):
            found = np.abs(found) + 0.1
        return np.asarray(found, np.float32)

    def per_channel(self) -> tuple[int, ...]:
        return (self.shape[1], *(1,) * (len(self.shape) - 2))

    def constant(self, name: str, array: np.ndarray) -> str:
        self.constants[name] = array
        return name

    def add(
        self, op: str, inputs: list[str], *, to: str = "", to_type: int = 0, **attributes: Any
    ) -> str:
        output = to or f"v{len(self.nodes)}"
        if to_type:
            attributes["to"] = to_type
        self.nodes.append(helper.make_node(op, inputs, [output], f"n_{output}", **attributes))
        return output

    def sometimes(self) -> bool:
        return bool(self.draw(st.booleans()))


_COMPARISONS = ("GreaterOrEqual", "Greater", "LessOrEqual", "Less")
