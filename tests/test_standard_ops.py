"""Ops of the ONNX standard: a sentence refuses them, or they give what onnxruntime does."""

import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from command_line import Run, refused
from networks import model_of
from onnx import helper, numpy_helper
from onnx.backend.test.case.test_case import TestCase

from bicompile.check import session
from bicompile.errors import UserError
from bicompile.pipeline import compile_model
from bicompile.targets import find_target

RANDOM = ("bernoulli", "dropout", "training")
PARTS = 40


def examples(part: int) -> list[TestCase]:
    """Of the standard's own examples of one op, those that read and give float32."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():  # some of them overflow on purpose
        warnings.simplefilter("ignore")
        found = [case for case in collect_testcases(None) if case.model and case.data_sets]
    plain = [case for case in found if not any(word in case.name for word in RANDOM)]
    return [case for case in plain[part::PARTS] if _is_float(case.data_sets[0])]


def _is_float(data: tuple[list[object], list[object]]) -> bool:
    inputs, outputs = data
    arrays = all(isinstance(value, np.ndarray) or np.isscalar(value) for value in inputs)
    return arrays and _first_float(inputs) is not None and _first_float(outputs[:1]) is not None


def _first_float(values: list[object]) -> int | None:
    kinds = [getattr(value, "dtype", None) == np.float32 for value in values]
    return kinds.index(True) if True in kinds else None


def with_one_input(case: TestCase) -> tuple[onnx.ModelProto, np.ndarray]:
    """The example with a batch of one: its first float input; the others become constants."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    inputs, _ = case.data_sets[0]
    kept = _first_float(inputs)
    assert kept is not None
    names = [value.name for value in model.graph.input]
    x = np.asarray(inputs[kept])
    constants = {name: np.asarray(a) for name, a in zip(names, inputs, strict=True)}
    constants[f"{names[kept]}/shape"] = np.array(x.shape, np.int64)
    reshape = helper.make_node("Reshape", ["batch", f"{names[kept]}/shape"], [names[kept]])
    del constants[names[kept]]
    del model.graph.input[:], model.graph.output[1:], model.opset_import[:]
    model.graph.input.append(helper.make_tensor_value_info("batch", 1, (1, *x.shape)))
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in constants.items())
    model.graph.node.insert(0, reshape)
    model.opset_import.append(helper.make_opsetid("", 20))
    model.ir_version = 10
    return model, x[None]


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_an_example_of_the_standard_is_refused_or_gives_what_onnxruntime_does(
    part: int, tmp_path: Path
) -> None:
    for case in examples(part):
        model, x = with_one_input(case)
        path = tmp_path / "model.onnx"
        path.write_bytes(model.SerializeToString())
        try:
            compiled = compile_model(str(path), find_target("host"), tmp_path / "out")
        except UserError:
            continue
        found = compiled.artifact.run(x, device="host")
        (expected,) = session(model).run(None, {"batch": x})
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5, err_msg=case.name)


def test_an_op_that_no_schedule_takes_is_compiled_as_it_is(bicompile: Run, tmp_path: Path) -> None:
    node = helper.make_node("LayerNormalization", ["x", "scale"], ["y"], axis=0)
    model = model_of([node], {"scale": np.ones((1, 6), np.float32)}, x=(1, 6), y=(1, 6))
    onnx.save(model, tmp_path / "model.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", out)
    assert ended.status == 0, ended.err


def test_an_object_without_constants_has_none(bicompile: Run, tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model_of([node], {}, x=(1, 6), y=(1, 6)), tmp_path / "model.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", out)
    assert " 0 constants" in ended.out, ended.err


def test_an_op_without_a_loop_nest_is_refused(bicompile: Run, tmp_path: Path) -> None:
    node = helper.make_node("ScatterElements", ["x", "places", "values"], ["y"], axis=1)
    constants = {"places": np.array([[1, 3]]), "values": np.float32([[5, 6]])}
    onnx.save(model_of([node], constants, x=(1, 6), y=(1, 6)), tmp_path / "model.onnx")
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", out)
    refused(ended, "TVM has no loop nest for scatter_elements")
    assert not out.exists()
