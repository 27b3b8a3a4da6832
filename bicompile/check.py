"""Proof by running: a pass is right when the graph gives the same before and after it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
from onnx import TensorProto

from bicompile.errors import UserError
from bicompile.ops import DOMAIN

TOLERANCE = 1e-4
"""Of the largest output; what reordering float sums does stays far below."""

_SMALLEST_INPUTS = 0.01
"""The check inputs' smallest magnitude by their largest: so small may all outputs of one be."""

_INPUTS = 6
_ROUNDINGS = 16  # how many times a value is rounded on the way to an output, about
_SILENT = 4
_COMPARISONS = {
    (DOMAIN, "Threshold"),
    *(("", op) for op in ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
}


def session(model: onnx.ModelProto, what: str = "the model") -> onnxruntime.InferenceSession:
    """Load a model in stock onnxruntime, one thread, without its warnings.

    Raises UserError, which calls the model `what`, where onnxruntime does not take it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options)
    except Exception as error:  # onnxruntime has a dozen exceptions without a common base
        raise _not_run(what, error) from error


def _run(
    loaded: onnxruntime.InferenceSession,
    what: str,
    x: np.ndarray,
    values: Mapping[str, np.ndarray] | None = None,
) -> list[np.ndarray]:
    try:
        first = loaded.get_inputs()[0].name
        outputs: list[np.ndarray] = loaded.run(None, {first: x, **(values or {})})
    except Exception as error:  # as above
        raise _not_run(what, error) from error
    return outputs


def _not_run(what: str, error: Exception) -> UserError:
    said = " ".join(str(error).split()).rstrip(".")
    return UserError(
        f"onnxruntime, which every pass is checked with, cannot run {what} ({said}); "
        "see that the model runs there first"
    )


def check_inputs(model: onnx.ModelProto) -> list[np.ndarray]:
    """Inputs to compare graphs on: normal numbers of three magnitudes, always the same."""
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    generator = np.random.default_rng(0)
    return [
        (generator.standard_normal(shape) * 10.0 ** (i % 3)).astype(np.float32)
        for i in range(_INPUTS)
    ]


@dataclass(frozen=True)
class Observed:
    """What a graph gives on the check inputs; both sides of its comparisons, one after another."""

    model: onnx.ModelProto
    inputs: Sequence[np.ndarray]
    outputs: list[np.ndarray]
    decisions: list[list[np.ndarray]]

    def difference(self, index: int, found: np.ndarray) -> float:
        """How far other outputs for an input are from these, of the largest number in these."""
        # Where a sum cancels, rounding noise may be all that is left of the outputs for one input.
        least = _SMALLEST_INPUTS * max(map(_largest, self.outputs), default=0.0)
        return _relative_difference(self.outputs[index], found, least)

    def is_near_threshold(self, index: int) -> bool:
        """Whether reordered sums could turn a decision on an input."""
        sides = self.decisions[index]
        return any(_near_threshold(x, t) for x, t in zip(sides[::2], sides[1::2], strict=True))


def observe(
    model: onnx.ModelProto, inputs: Sequence[np.ndarray], what: str = "the model"
) -> Observed:
    """Run a graph on every input; raises UserError, which calls it `what`, where it does not."""
    loaded = session(_with_decisions(model), what)
    runs = [_run(loaded, what, x) for x in inputs]
    return Observed(model, inputs, [run[0] for run in runs], [run[1:] for run in runs])


def check_pass(name: str, before: Observed, after: Observed) -> None:
    """Compare both graphs; raises UserError naming the pass, the node and the input that differ.

    A pass may reorder float sums, and an activation that lies on its threshold may then take the
    other sign; on such an input the outputs may differ. Then every value that both graphs have is
    compared as well, computed from what `before` has for the others, so that a sign that turned
    does nothing to what follows: none may differ on most inputs.

    Where a sum cancels, rounding is all that is left of it. Outputs may differ by what a change of
    every constant in its last place changes them.
    """
    is_crossed = False
    output = after.model.graph.output[0].name
    for index, found in enumerate(after.outputs):
        difference = before.difference(index, found)
        if difference <= TOLERANCE:
            continue
        if not before.is_near_threshold(index):
            if is_noise(before, index, found):
                continue
            _refuse_infinite(before.model, before.inputs[index], name, index)
            node = first_difference(before.model, after.model, before.inputs[index])
            raise _disagreement(name, node, f"output {output}", index, difference)
        is_crossed = True
    if not is_crossed:
        return
    for value, parted in _parted(before.model, after.model, before.inputs).items():
        if 2 * len(parted) > len(before.inputs):
            index, difference = parted[0]
            _refuse_infinite(before.model, before.inputs[index], name, index)
            node = _described(_computed(before.model)[value])
            kind = "output" if value == output else "its value"
            raise _disagreement(name, node, f"{kind} {value}", index, difference)


def is_noise(before: Observed, index: int, found: np.ndarray) -> bool:
    """Whether other outputs are no further away than rounding could bring them."""
    expected, x = before.outputs[index], before.inputs[index]
    if expected.shape != found.shape or expected.dtype.kind != "f":
        return False
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return False
    noise = 0.0
    for seed in range(4):
        try:
            other, *_ = _run(session(_moved(before.model, seed), "the model"), "the model", x)
        except UserError:  # a size or a scale that must be as it is
            return False
        if other.shape == expected.shape:
            noise = max(noise, _largest((other - expected)[finite]))
    distance = np.abs(found - expected)[finite].max(initial=0.0)
    return bool(distance <= _ROUNDINGS * noise)


def _moved(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """The model with every float constant up or down by a unit in its last place."""
    generator = np.random.default_rng(seed)
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    for tensor in moved.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = onnx.numpy_helper.to_array(tensor)
            steps = generator.choice(np.array([-1, 1], np.float32), values.shape) * np.float32(
                2**-23
            )
            tensor.CopyFrom(onnx.numpy_helper.from_array(values + values * steps, tensor.name))
    return moved


def _refuse_infinite(model: onnx.ModelProto, x: np.ndarray, name: str, index: int) -> None:
    """Raise UserError where a node makes an infinite number, or none, of an ordinary input.

    Passes move factors and sums, which changes what comes of those and of nothing else.
    """
    nodes = _computed(model)
    values = _run(session(_with_outputs(model, list(nodes)), "the model"), "the model", x)
    for node, value in zip(nodes.values(), values, strict=True):
        is_float = isinstance(value, np.ndarray) and value.dtype.kind == "f"
        if is_float and not np.isfinite(value).all():
            raise UserError(
                f"node {_described(node)} computes an infinite number, or none, on check "
                f"input {index}, so that pass {name} cannot keep what the model computes; export "
                "it so that it stays finite there (is a divisor or a variance 0?)"
            )


def _disagreement(name: str, node: str, value: str, index: int, difference: float) -> UserError:
    return UserError(
        f"pass {name} changed what the model computes at node {node}: {value} differs by "
        f"{difference:.3g} of its largest value on check input {index}, accepted {TOLERANCE:g}; "
        "nothing was written, please report the model"
    )


def _parted(
    before: onnx.ModelProto, after: onnx.ModelProto, inputs: Sequence[np.ndarray]
) -> dict[str, list[tuple[int, float]]]:
    """The inputs on which a value of both graphs differs, and by how much, by the value's name.

    What `after` computes every value from is what `before` has for those that both have.
    """
    left = _computed(after)
    names = [name for name in _computed(before) if name in left]
    watched = session(_with_outputs(before, names))
    parted: dict[str, list[tuple[int, float]]] = {}
    fed = None
    for index, x in enumerate(inputs):
        values = zip(names, _run(watched, "the model", x), strict=True)
        expected = {name: value for name, value in values if isinstance(value, np.ndarray)}
        if fed is None:
            fed = session(_fed(after, expected), "the graph after the pass")
        found = _run(fed, "the graph after the pass", x, expected)
        for (name, old), new in zip(expected.items(), found, strict=True):
            difference = _relative_difference(old, new)
            if difference > TOLERANCE:
                parted.setdefault(name, []).append((index, difference))
    return parted


def _fed(model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> onnx.ModelProto:
    """The model with these values as inputs, and as outputs what it computes for each of them."""
    fed = onnx.ModelProto()
    fed.CopyFrom(model)
    prefix = _unused("computed", model)
    for node in fed.graph.node:
        node.output[:] = [prefix + name if name in values else name for name in node.output]
    del fed.graph.output[:], fed.graph.value_info[:]
    fed.graph.output.extend(onnx.ValueInfoProto(name=prefix + name) for name in values)
    for name, value in values.items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        fed.graph.input.append(onnx.helper.make_tensor_value_info(name, kind, value.shape))
    return fed


def first_difference(before: onnx.ModelProto, after: onnx.ModelProto, x: np.ndarray) -> str:
    """The node of `before` at which the graphs part on an input, as `NAME (OP)`.

    A value keeps its name through a pass only where it keeps its meaning, so the values with a name
    in both graphs are compared in the order of `before`. Where the first that differs is computed
    from one that is no longer there, that one's node is what the pass rewrote.
    """
    nodes, left = _computed(before), _computed(after)
    names = [name for name in nodes if name in left]
    old, new = (_run(session(_with_outputs(m, names)), "the model", x) for m in (before, after))
    pairs = zip(names, old, new, strict=True)
    parted = (name for name, a, b in pairs if _relative_difference(a, b) > TOLERANCE)
    node = nodes[next(parted, before.graph.output[0].name)]
    rewritten = [nodes[name] for name in node.input if name in nodes and name not in left]
    node = (rewritten or [node])[0]
    return _described(node)


def _described(node: onnx.NodeProto) -> str:
    return f"{node.name or node.output[0]} ({node.op_type})"


def _computed(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    """The node of every value, in the order of the graph."""
    return {name: node for node in model.graph.node for name in node.output if name}


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """The model with these values as its outputs."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    return watched


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0, where=np.isfinite(values)))


def _relative_difference(expected: np.ndarray, found: np.ndarray, least: float = 0.0) -> float:
    """The largest difference, of the largest finite value or of `least`."""
    if expected.shape != found.shape or not np.array_equal(np.isnan(expected), np.isnan(found)):
        return float("inf")
    expected, found = expected.astype(np.float64), found.astype(np.float64)
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = max(_largest(expected), least) or 1.0
    return float(np.abs(expected[finite] - found[finite]).max()) / scale


def _near_threshold(x: np.ndarray, threshold: np.ndarray) -> bool:
    """Whether reordered sums could move an element of x across its threshold."""
    x, threshold = x.astype(np.float64), threshold.astype(np.float64)
    largest = np.abs(x).max(initial=0.0, where=np.isfinite(x))
    with np.errstate(invalid="ignore"):
        return bool((np.abs(x - threshold) <= TOLERANCE * largest).any())


def _with_decisions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, with both sides of every decision as further outputs.

    A comparison has two; a Sign compares with 0, a Round with the nearest number between two
    integers, a Floor and a Ceil with the nearest integer. Inside DualScale there are comparisons.
    """
    extended = onnx.inliner.inline_selected_functions(model, [(DOMAIN, "DualScale")])
    graph = extended.graph
    nodes = list(graph.node)
    prefix = _unused("decision", extended)
    numbers = {f"{prefix}zero": 0, f"{prefix}half": 0.5}
    for name, number in numbers.items():
        graph.initializer.append(onnx.numpy_helper.from_array(np.float32(number), name))
    zero, half = numbers
    sides: list[str] = []

    def add(op: str, *inputs: str) -> str:
        name = f"{prefix}{len(graph.node)}"
        graph.node.append(onnx.helper.make_node(op, inputs, [name]))
        return name

    for node in nodes:
        if (node.domain, node.op_type) in _COMPARISONS:
            sides += node.input
        elif (node.domain, node.op_type) == ("", "Sign"):
            sides += [node.input[0], zero]
        elif (node.domain, node.op_type) == ("", "Round"):
            of_its_type = add("CastLike", half, node.input[0])
            sides += [node.input[0], add("Add", add("Floor", node.input[0]), of_its_type)]
        elif (node.domain, node.op_type) in (("", "Floor"), ("", "Ceil")):
            sides += [node.input[0], add("Round", node.input[0])]
    # An output may stand once and must be computed: copies make both true.
    graph.output.extend(onnx.ValueInfoProto(name=add("Identity", name)) for name in sides)
    return extended


def with_sign_of_zero(model: onnx.ModelProto, choice: str) -> onnx.ModelProto:
    """The model with Sign(Sign(x) ± ½) for every Sign(x) of float32: ±1 at 0, `plus` or `minus`."""
    decided = onnx.ModelProto()
    decided.CopyFrom(model)
    graph = decided.graph
    values = (*graph.value_info, *graph.output)
    floats = {v.name for v in values if v.type.tensor_type.elem_type == TensorProto.FLOAT}
    shift = _unused("shift", model)
    half = np.float32(0.5 if choice == "plus" else -0.5)
    graph.initializer.append(onnx.numpy_helper.from_array(half, shift))
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        (name, *_) = node.output
        if (node.domain, node.op_type) == ("", "Sign") and name in floats:
            sign, shifted = f"{shift}/{name}/sign", f"{shift}/{name}/shifted"
            nodes.append(onnx.helper.make_node("Sign", node.input, [sign]))
            nodes.append(onnx.helper.make_node("Add", [sign, shift], [shifted]))
            nodes.append(onnx.helper.make_node("Sign", [shifted], [name], node.name))
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    return decided


def _unused(prefix: str, model: onnx.ModelProto) -> str:
    """A prefix that no value's name begins with."""
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    return prefix
