from pathlib import Path

import networks
import onnx
import pytest
from elftools.elf.elffile import ELFFile

from bicompile.calls import KernelCall, describe_calls, float_floor, floor, read_calls, units
from bicompile.explain import explain, explain_model
from bicompile.load import load_model
from bicompile.lower import lower
from bicompile.pipeline import compile_model, explain_kernels
from bicompile.rewriting import run_passes
from bicompile.targets import find_target
from bicompile.zoo import onnx_file


def calls_of(path: Path) -> list[KernelCall]:
    traced = load_model(path)
    lowered = run_passes(traced, check=False)
    return describe_calls(lower(lowered), lowered, explain("model", traced, lowered))


def test_every_product_has_its_layer_and_its_shape(keyword_onnx: Path) -> None:
    products = {call.layer: call.product for call in calls_of(keyword_onnx) if call.product}
    assert products == {"front": (25, 20, 64), "point": (20, 18, 64), "head": (18, 12, 1)}


def test_binarizing_counts_to_the_layer_that_reads_the_bits(keyword_onnx: Path) -> None:
    calls = calls_of(keyword_onnx)
    assert {call.layer for call in calls if call.units == 0} >= {"front", "head"}


def test_bits_that_a_product_leaves_cost_no_other_call(keyword_onnx: Path) -> None:
    assert [call.layer for call in calls_of(keyword_onnx)].count("point") == 1


def test_all_planes_of_a_layer_are_its_columns() -> None:
    with onnx_file("zoo:bifsmnv2-kws12", 0) as (path, _):
        calls = calls_of(path)
    products = {call.layer: call.product for call in calls if call.product}
    assert products["/front/conv2/Conv"] == (400, 32, 64)
    assert products["/blocks/0/project/Conv"] == (256, 128, 2 * 8)


def test_calls_of_an_artifact_are_those_of_its_model(
    compiled_folder: Path, keyword_onnx: Path
) -> None:
    assert read_calls(compiled_folder / "report.json") == calls_of(keyword_onnx)


@pytest.mark.parametrize("target", ["cortex-a53", "host"])
def test_explained_for_a_target_every_binary_layer_names_a_function_of_its_object(
    target: str, keyword_onnx: Path, tmp_path: Path
) -> None:
    layers = explain_kernels(str(keyword_onnx), find_target(target)).layers
    compiled = compile_model(str(keyword_onnx), find_target(target), tmp_path / "out", check=False)
    assert layers == compiled.explanations[0].layers
    functions = functions_of(compiled.artifact.executable.object)
    assert all(layer.function in functions for layer in layers if layer.binary)


def functions_of(path: Path) -> set[str]:
    with path.open("rb") as file:
        symbols = ELFFile(file).get_section_by_name(".symtab")
        return {symbol.name for symbol in symbols.iter_symbols()}


def test_without_a_target_no_function_is_named(keyword_onnx: Path) -> None:
    assert {layer.function for layer in explain_model(str(keyword_onnx)).layers} == {None}


def test_a_unit_is_128_products_of_a_sum_begun() -> None:
    assert [units(bits, 10) for bits in (1, 128, 129, 400)] == [10, 10, 20, 40]


def test_the_floor_counts_the_bytes_of_a_sum() -> None:
    assert floor(128, 16, is_float=False) == 16 * 3
    assert floor(400, 16, is_float=True) == 16 * (3 * 50 / 16 + 0.5)


def test_the_floor_of_a_float_sum_is_a_multiply_add_for_four_products(tmp_path: Path) -> None:
    assert float_floor(128, 16) == 16 * 32
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    assert [call.floor for call in calls_of(tmp_path / "float.onnx")] == [6 * 5 / 4]


def test_bytes_are_those_of_the_constants_and_of_the_tensors(tmp_path: Path) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    (call,) = calls_of(tmp_path / "float.onnx")
    assert call.constant_bytes == 4 * (6 * 5 + 5)  # weights and bias
    assert call.moved_bytes == 4 * (6 + 5)
