"""Agreement with what a network was, and the sets that it is measured on."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from bicompile.calibration import agreement, read_calibration
from bicompile.errors import UserError
from bicompile.zoo import clip_paths

SHAPE = (1, 1, 32, 32)


def test_an_array_is_read_as_float32(tmp_path: Path) -> None:
    given = np.random.default_rng(0).standard_normal((3, *SHAPE))
    np.save(tmp_path / "set.npy", given)
    found = read_calibration(str(tmp_path / "set.npy"), SHAPE)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, given.astype(np.float32))


def test_sound_files_are_read_as_features() -> None:
    (folder,) = clip_paths(["zoo:clips"])
    assert read_calibration(str(folder / "yes"), SHAPE).shape == (2, *SHAPE)


@pytest.mark.parametrize("shape", [(3, 8), (0, *SHAPE), (3, 1, 32, 32), ()])
def test_a_set_of_another_shape_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.zeros(shape, np.float32))
    with pytest.raises(UserError) as caught:
        read_calibration(str(tmp_path / "set.npy"), SHAPE)
    assert "takes (1, 1, 32, 32)" in str(caught.value)
    assert "(n, 1, 1, 32, 32)" in str(caught.value)


def test_clips_are_refused_for_a_model_that_takes_something_else() -> None:
    with pytest.raises(UserError, match=r"zoo:clips has the log-mel .* and the model takes"):
        read_calibration("zoo:clips", (1, 8))


@pytest.mark.parametrize("content", [b"", b"words", b"\x93NUMPY\x01\x00"])
def test_a_file_that_is_no_array_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "set.npy").write_bytes(content)
    with pytest.raises(UserError, match=r"is no array that numpy\.save wrote"):
        read_calibration(str(tmp_path / "set.npy"), SHAPE)


def test_an_array_of_words_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "set.npy", np.array(["one", "two"]))
    with pytest.raises(UserError, match="holds no numbers"):
        read_calibration(str(tmp_path / "set.npy"), SHAPE)


def test_agreement_counts_equal_answers(keyword_onnx: Path) -> None:
    model = onnx.load(keyword_onnx)
    inputs = np.random.default_rng(1).uniform(-30, 30, (6, *SHAPE)).astype(np.float32)
    same = agreement(model, model, inputs)
    assert (same.inputs, same.agreeing, same.median_difference) == (6, 6, 0)
    other = onnx.ModelProto()
    other.CopyFrom(model)
    output = other.graph.output[0].name
    last = next(node for node in other.graph.node if output in node.output)
    last.output[0] = "turned"
    other.graph.node.append(onnx.helper.make_node("Neg", ["turned"], [output]))
    assert agreement(model, other, inputs).agreeing == 0
