"""Our kernels beside the hand kernel: any shape, the products of a model, and what is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from command_line import Run, refused
from hypothesis import given, settings
from hypothesis import strategies as st

from bicompile.compare import Wanted, compare, parse_shapes, products_of
from bicompile.cost import mca
from bicompile.product import MOST_UNITS, Product
from bicompile.targets import find_target

A53 = find_target("cortex-a53")
SIDE = st.integers(1, 40)
PRODUCTS = st.builds(Product, st.integers(1, 700), SIDE, SIDE)

# K, M, N; instructions and modelled cycles of cortex-a53 for a unit, at most.
BOUNDS = [
    (128, 256, 8, 4.4, 4.0),
    (128, 256, 16, 4.4, 4.0),
    (256, 128, 8, 4.0, 3.6),
    (256, 128, 16, 4.0, 3.6),
    (400, 32, 64, 3.5, 3.0),
    (1024, 256, 64, 3.5, 3.2),
]


@settings(max_examples=3, deadline=None)
@given(st.lists(PRODUCTS, min_size=3, max_size=3, unique=True))
def test_every_kernel_is_exact_on_any_shape(products: list[Product]) -> None:
    for shape in compare(Wanted(dict.fromkeys(products, ())), A53, []):
        assert [(each.kernel, each.exact) for each in shape.kernels] == [
            ("hand", True),
            ("default", True),
        ], shape.product


@given(PRODUCTS)
def test_a_product_means_the_dot_products_of_signs(product: Product) -> None:
    rows, weights = product.operands()

    def signs(packed: np.ndarray) -> np.ndarray:
        bits = np.unpackbits(packed, axis=1, count=product.bits, bitorder="little")
        return bits.astype(np.int32) * 2 - 1

    expected = signs(rows) @ signs(weights).T
    np.testing.assert_array_equal(product.meaning(rows, weights), expected)


@pytest.mark.parametrize(("k", "m", "n", "instructions", "cycles"), BOUNDS)
def test_a_unit_of_the_default_schedule_costs_at_most(
    k: int, m: int, n: int, instructions: float, cycles: float
) -> None:
    product = Product(k, m, n)
    (shape,) = compare(Wanted({product: ()}), A53, ["cortex-a53"])
    hand, default = shape.kernels
    assert default.exact
    assert default.cost.spills == hand.cost.spills == 0
    assert default.cost.instructions / product.units <= instructions
    assert default.cost.modelled_cycles["cortex-a53"] / product.units <= cycles
    assert default.ratios["cortex-a53"] < hand.ratios["cortex-a53"] == 1


def test_products_of_a_model_have_their_layers_and_come_once() -> None:
    wanted = products_of("zoo:bifsmnv2-kws12")
    layers = {product: names[0] for product, names in wanted.products.items()}
    assert layers == {
        Product(400, 32, 64): "/front/conv2/Conv",
        Product(256, 128, 8): "/linear/MatMul",
        Product(128, 256, 8): "/blocks/0/expand/Conv",
        Product(256, 128, 16): "/blocks/0/project/Conv",
        Product(128, 256, 16): "/blocks/1/expand/Conv",
    }
    assert len(wanted.products[Product(128, 256, 16)]) == 6
    assert wanted.left_out == tuple(f"/blocks/{n}/memory/Conv" for n in range(8))


def test_compare_prints_a_line_a_kernel_and_names_the_models(
    bicompile: Run, keyword_onnx: Path
) -> None:
    ended = bicompile("compare", keyword_onnx, "--core", "cortex-a53")
    assert (ended.status, ended.err) == (0, "")
    lines = ended.out.splitlines()
    assert lines[1].split()[:3] == ["25,20,64", "hand", "yes"]
    assert lines[2].split()[:2] == ["default", "yes"]
    assert lines[3] == "  front"
    assert "cycles are modelled by the in-order model of cortex-a53" in ended.out


def test_compare_as_json_has_these_keys(bicompile: Run) -> None:
    told = json.loads(
        bicompile("compare", "--shapes", "128,16,2", "--core", "cortex-a53", "--json").out
    )
    (shape,) = told["shapes"]
    kernels = shape.pop("kernels")
    sides = {"bits": 128, "outputs": 16, "columns": 2}
    assert shape == {**sides, "units": 32, "layers": [], "untuned": "there is no record of it"}
    assert [kernel["kernel"] for kernel in kernels] == ["hand", "default"]
    assert kernels[1].keys() == {
        "kernel",
        "exact",
        "instructions",
        "vector_instructions",
        "vectors_loaded",
        "registers",
        "spills",
        "modelled_cycles",
        "ratios",
        "seconds",
    }
    assert list(told["models"]) == ["cortex-a53"]


def test_on_the_host_every_kernel_that_it_runs_has_seconds(bicompile: Run) -> None:
    shape = ("--shapes", "128,16,2", "--core", "cortex-a53")
    told = json.loads(bicompile("compare", *shape, "--device", "host", "--json").out)
    hand, default = told["shapes"][0]["kernels"]
    seconds = default["seconds"]
    assert 0 < seconds["low"] <= seconds["median"] <= seconds["high"]
    assert told["machine"].startswith("this machine (")
    if find_target("host").arch == "aarch64":
        assert hand["seconds"] is not None
    else:
        assert hand["seconds"] is None
        assert "the hand kernel is arm64 assembly and is not timed" in told["notes"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("128,256", "'128,256' is no shape: give bits, outputs and columns as K,M,N"),
        ("128,a,8", "'128,a,8' is no shape"),
        ("128,-2,8", "'128,-2,8' is no shape"),
        ("128,2.5,8", "'128,2.5,8' is no shape"),
        ("128,0,8", "the shape 128,0,8 has a side of 0"),
        ("128,4096,4096", f"is too large to emulate: give K, M and N .* at most {MOST_UNITS}"),
        ("8," + "9" * 5000 + ",1", "is too large to emulate"),
    ],
)
def test_what_is_no_shape_is_refused(bicompile: Run, text: str, said: str) -> None:
    ended = bicompile("compare", "--shapes", "128,16,2", text)
    refused(ended, said.split(" .* ")[0])


def test_equal_shapes_are_compared_once() -> None:
    assert len(parse_shapes(["128,16,2", "128, 16, 2"]).products) == 1


def test_a_model_without_a_binary_layer_is_refused(bicompile: Run, tmp_path: Path) -> None:
    onnx.save(networks.float_network(), tmp_path / "float.onnx")
    refused(
        bicompile("compare", tmp_path / "float.onnx"),
        "float.onnx has no binary matrix product to compare: `bicompile explain` says",
    )


def test_two_models_are_refused(bicompile: Run) -> None:
    refused(bicompile("compare", "a.onnx", "b.onnx"), "give one model, not 2")


def test_an_unknown_core_is_refused(bicompile: Run) -> None:
    ended = bicompile("compare", "--shapes", "128,16,2", "--core", "cortex-m4")
    refused(ended, "no cost model for cortex-m4: there are models for cortex-a53")


def test_a_target_that_is_not_arm64_is_refused(bicompile: Run) -> None:
    if find_target("host").arch == "aarch64":
        pytest.skip("this machine is arm64")
    ended = bicompile("compare", "--shapes", "128,16,2", "--target", "host")
    refused(ended, "cannot be emulated: give an arm64 target such as cortex-a53")


def test_a_device_without_seconds_is_refused(bicompile: Run) -> None:
    ended = bicompile("compare", "--shapes", "128,16,2", "--device", "emulator")
    refused(ended, "emulator tells no seconds: give --device host")


@pytest.fixture
def _no_mca(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    mca.tool.cache_clear()
    monkeypatch.setattr(shutil, "which", lambda name: None)
    yield
    mca.tool.cache_clear()


@pytest.mark.usefixtures("_no_mca")
def test_without_llvm_mca_a_core_that_needs_it_is_refused(bicompile: Run) -> None:
    ended = bicompile("compare", "--shapes", "128,16,2", "--core", "neoverse-n1")
    refused(ended, "llvm-mca is not installed: apt-get install llvm-19")


@pytest.mark.usefixtures("_no_mca")
def test_without_llvm_mca_the_cores_that_need_it_are_named(bicompile: Run) -> None:
    ended = bicompile("compare", "--shapes", "128,16,2")
    assert ended.status == 0
    assert "cortex-a72 and neoverse-n1 are not modelled: llvm-mca is not installed" in ended.out
