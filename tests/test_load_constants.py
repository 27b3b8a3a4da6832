"""Constants of a model: in another file, damaged, not finite."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import floats, run
from loading import refusal, saved
from networks import float_network, keyword_network
from onnx import TensorProto, helper, numpy_helper

from bicompile.load import load_model
from bicompile.rewriting import run_passes


def test_constants_in_another_file_that_is_missing_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        float_network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    load_model(path)
    (tmp_path / "weights.bin").unlink()
    said = refusal(path)
    assert said.startswith(" cannot be read: ")
    assert "weights.bin" in said


def test_constants_in_another_file_that_is_truncated_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(
        float_network(), path, save_as_external_data=True, location="weights.bin", size_threshold=0
    )
    (tmp_path / "weights.bin").write_bytes(b"123")
    refusal(path)


def test_constants_outside_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"1234" * 30)
    model = float_network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    (tmp_path / "inside").mkdir()
    refusal(saved(tmp_path / "inside", model))


def test_a_constant_whose_bytes_do_not_fit_is_refused(tmp_path: Path) -> None:
    model = float_network()
    model.graph.initializer[0].raw_data += b"1234"
    assert ": the constant weights is damaged" in refusal(saved(tmp_path, model))


def test_sparse_constants_are_refused(tmp_path: Path) -> None:
    sparse = onnx.SparseTensorProto(dims=[4])
    sparse.values.CopyFrom(numpy_helper.from_array(np.float32([1]), "sparse"))
    sparse.indices.CopyFrom(numpy_helper.from_array(np.array([2]), "indices"))
    model = float_network()
    model.graph.sparse_initializer.append(sparse)
    assert refusal(saved(tmp_path, model)) == " has sparse constants; export it with dense ones"


def test_a_constant_that_holds_nan_is_refused(tmp_path: Path) -> None:
    model = float_network()
    weights = np.ones((6, 5), np.float32)
    weights[2, 3] = np.nan
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))
    said = refusal(saved(tmp_path, model))
    assert said == ": the constant weights holds NaN; train or export the model again"


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_a_constant_that_is_infinite_loads_and_gives_the_same(tmp_path: Path, bad: float) -> None:
    for place in range(len(keyword_network().graph.initializer)):
        model = keyword_network()
        tensor = model.graph.initializer[place]
        array = numpy_helper.to_array(tensor).copy()
        if array.dtype != np.float32:
            continue
        array[(0,) * array.ndim] = bad
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        run_passes(load_model(saved(tmp_path, model)), check=True)


def test_constants_that_are_also_inputs_become_constants(tmp_path: Path) -> None:
    model = float_network()
    weights = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [6, 5])
    model.graph.input.insert(0, weights)
    model.ir_version = 3
    loaded = load_model(saved(tmp_path, model))
    assert [value.name for value in loaded.graph.input] == ["x"]
    x = floats(0, 1, 6)
    np.testing.assert_array_equal(run(loaded, x), run(float_network(), x))
