"""Proof by running: a pass is right when the graph gives the same before and after it."""

from collections.abc import Sequence

import numpy as np
import onnx
import onnxruntime

from bicompile.errors import UserError
from bicompile.ops import DOMAIN

_TOLERANCE = 1e-4
"""Of the largest output; what reordering float sums does stays far below."""

_INPUTS = 6
_SILENT = 4
_COMPARISONS = {
    (DOMAIN, "Threshold"),
    *(("", op) for op in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual")),
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


def _run(loaded: onnxruntime.InferenceSession, what: str, x: np.ndarray) -> list[np.ndarray]:
    try:
        outputs: list[np.ndarray] = loaded.run(None, {loaded.get_inputs()[0].name: x})
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


def check_pass(
    name: str, before: onnx.ModelProto, after: onnx.ModelProto, inputs: Sequence[np.ndarray]
) -> None:
    """Run both graphs; raises UserError naming the pass and the input where they differ.

    A pass may reorder float sums, and an activation that lies on its threshold may then take the
    other sign: on such an input the outputs may differ, but not on most inputs.
    """
    old, new = session(_with_decisions(before)), session(after, f"the graph after pass {name}")
    crossed = []
    for index, x in enumerate(inputs):
        expected, *decisions = _run(old, "the model", x)
        (found,) = _run(new, f"the graph after pass {name}", x)
        difference = _relative_difference(expected, found)
        if difference <= _TOLERANCE:
            continue
        if not any(
            _near_threshold(x, t) for x, t in zip(decisions[::2], decisions[1::2], strict=True)
        ):
            raise _disagreement(name, after, index, difference)
        crossed.append((index, difference))
    if 2 * len(crossed) > len(inputs):
        raise _disagreement(name, after, *crossed[0])


def _disagreement(name: str, model: onnx.ModelProto, index: int, difference: float) -> UserError:
    return UserError(
        f"pass {name} changed what the model computes: output {model.graph.output[0].name} differs "
        f"by {difference:.3g} of its largest value on check input {index}, accepted "
        f"{_TOLERANCE:g}; nothing was written, please report the model"
    )


def _relative_difference(expected: np.ndarray, found: np.ndarray) -> float:
    if expected.shape != found.shape or not np.array_equal(np.isnan(expected), np.isnan(found)):
        return float("inf")
    finite = np.isfinite(expected)
    if not np.array_equal(expected[~finite], found[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    scale = float(np.abs(expected[finite]).max()) or 1.0
    return float(np.abs(expected[finite] - found[finite]).max()) / scale


def _near_threshold(x: np.ndarray, threshold: np.ndarray) -> bool:
    """Whether reordered sums could move an element of x across its threshold."""
    x, threshold = x.astype(np.float64), threshold.astype(np.float64)
    largest = np.abs(x).max(initial=0.0, where=np.isfinite(x))
    with np.errstate(invalid="ignore"):
        return bool((np.abs(x - threshold) <= _TOLERANCE * largest).any())


def _with_decisions(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model, with both sides of every comparison as further outputs."""
    extended = onnx.ModelProto()
    extended.CopyFrom(model)
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    prefix = "decision"
    while any(name.startswith(prefix) for name in names):
        prefix += "_"
    zero = f"{prefix}zero"
    extended.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(0), zero))
    sides = []
    for node in model.graph.node:
        if (node.domain, node.op_type) in _COMPARISONS:
            sides += node.input
        elif (node.domain, node.op_type) == ("", "Sign"):
            sides += [node.input[0], zero]
    # An output may stand once and must be computed: copies make both true.
    for index, name in enumerate(sides):
        copy = f"{prefix}{index}"
        extended.graph.node.append(onnx.helper.make_node("Identity", [name], [copy]))
        extended.graph.output.append(onnx.ValueInfoProto(name=copy))
    return extended
