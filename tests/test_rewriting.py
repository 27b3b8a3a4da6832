"""Applying the passes: what is proved after each, and what is dumped."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from command_line import Run, refused
from networks import float_network, keyword_network

from bicompile import rewriting
from bicompile.check import session
from bicompile.errors import UserError
from bicompile.load import load_model
from bicompile.passes import PASSES
from bicompile.rewriting import run_passes

Pass = Callable[[ir.Model], None]


def loaded(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto:
    onnx.save(model, folder / "model.onnx")
    return load_model(folder / "model.onnx")


def one_weight_wrong(model: ir.Model) -> None:
    """What a careless pass would do: the sum of one output of `head` is another one."""
    value = model.graph.initializers["head_weights"]
    assert value.const_value is not None
    weights = np.array(value.const_value.numpy())
    weights[0, 0] *= -1
    value.const_value = ir.tensor(weights, name=value.name)


def no_inputs(model: ir.Model) -> None:
    """What leaves a graph that no checker accepts."""
    next(iter(model.graph)).replace_input_with(0, None)


@pytest.fixture
def wrong_pass(monkeypatch: pytest.MonkeyPatch) -> Callable[[Pass], None]:
    """Puts a pass before all others."""

    def put(rewrite: Pass) -> None:
        monkeypatch.setattr(rewriting, "PASSES", (rewrite, *PASSES))

    return put


def test_a_wrong_pass_stops_the_compile_and_is_named_with_node_and_input(
    bicompile: Run, wrong_pass: Callable[[Pass], None], tmp_path: Path
) -> None:
    onnx.save(keyword_network(), tmp_path / "model.onnx")
    wrong_pass(one_weight_wrong)
    out = tmp_path / "out"
    ended = bicompile("compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", out)
    refused(
        ended,
        "pass one_weight_wrong changed what the model computes at node head (MatMul): output y",
        "on check input 0",
    )
    assert not out.exists()


def test_the_graph_that_a_wrong_pass_left_is_dumped(
    wrong_pass: Callable[[Pass], None], tmp_path: Path
) -> None:
    wrong_pass(one_weight_wrong)
    with pytest.raises(UserError):
        run_passes(loaded(keyword_network(), tmp_path), check=True, dump_ir=tmp_path / "ir")
    dumped = sorted(path.name for path in (tmp_path / "ir").iterdir())
    assert dumped == ["00-traced.onnx", "01-one-weight-wrong.onnx"]


def test_without_the_check_a_wrong_pass_goes_unseen(
    wrong_pass: Callable[[Pass], None], tmp_path: Path
) -> None:
    wrong_pass(one_weight_wrong)
    run_passes(loaded(keyword_network(), tmp_path), check=False)


@pytest.mark.parametrize("check", [True, False])
def test_a_pass_that_leaves_an_invalid_graph_is_named(
    wrong_pass: Callable[[Pass], None], tmp_path: Path, check: bool
) -> None:
    wrong_pass(no_inputs)
    with pytest.raises(UserError, match=r"^pass no_inputs left a graph that is not valid ONNX"):
        run_passes(loaded(float_network(), tmp_path), check=check)


def test_every_dumped_graph_is_valid_and_runs_in_onnxruntime(tmp_path: Path) -> None:
    run_passes(loaded(keyword_network(), tmp_path), check=False, dump_ir=tmp_path / "ir")
    dumped = sorted((tmp_path / "ir").iterdir())
    assert len(dumped) == len(PASSES) + 1
    x = np.random.default_rng(0).standard_normal((1, 1, 32, 32)).astype(np.float32)
    for path in dumped:
        onnx.checker.check_model(path, full_check=True)
        session(onnx.load(path)).run(None, {"x": x})


def test_dumped_graphs_are_named_in_order_from_traced_to_packed(tmp_path: Path) -> None:
    run_passes(loaded(float_network(), tmp_path), check=False, dump_ir=tmp_path / "ir")
    names = sorted(path.stem for path in (tmp_path / "ir").iterdir())
    assert names[0] == "00-traced"
    assert names[1:-1] == [
        f"{number:02}-{rewrite.__name__.replace('_', '-')}"
        for number, rewrite in enumerate(PASSES[:-1], start=1)
    ]
    assert names[-1] == f"{len(PASSES):02}-packed"


def test_a_dump_replaces_the_dump_of_an_earlier_compile_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "ir"
    folder.mkdir()
    for name in ("00-traced.onnx", "03-no-pass-of-today.onnx", "mine.onnx"):
        (folder / name).touch()
    run_passes(loaded(float_network(), tmp_path), check=False, dump_ir=folder)
    names = {path.name for path in folder.iterdir()}
    assert "03-no-pass-of-today.onnx" not in names
    assert "mine.onnx" in names
    assert len(names) == len(PASSES) + 2


def test_a_dump_folder_that_cannot_be_made_is_refused(bicompile: Run, tmp_path: Path) -> None:
    onnx.save(float_network(), tmp_path / "model.onnx")
    (tmp_path / "file").touch()
    command = ["compile", tmp_path / "model.onnx", "--target", "cortex-a53", "-o", tmp_path / "out"]
    refused(bicompile(*command, "--dump-ir", tmp_path / "file"), "choose another output path")
    assert not (tmp_path / "out").exists()
