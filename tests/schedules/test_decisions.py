import dataclasses

import numpy as np
import pytest
import tvm_ffi
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kernel_runs import run_kernels

from bicompile.meaning import meaning, wrong
from bicompile.schedules import schedule
from bicompile.schedules.decisions import (
    Decisions,
    Interleaved,
    Tile,
    Tree,
    annotate,
    decide,
    decided,
    from_json,
    spaces,
    to_json,
)
from bicompile.schedules.microkernels import usual
from bicompile.workloads import grouped_popcount_gemm, popcount_gemm, threshold

NEST = popcount_gemm(5, 18, 48, used_bytes=36)


def bits(rows: int, row_bytes: int, used: int) -> np.ndarray:
    made = np.random.default_rng(rows).integers(0, 256, (rows, row_bytes), np.uint8)
    made[:, used:] = 0
    return made


USUAL = usual(2, finished=False)
TREES = st.builds(
    Tree,
    st.sampled_from([1, 2]),
    st.sampled_from([0, 1]),
    st.integers(1, 3),
    st.sampled_from([2, 4, 8, 12]),
    st.sampled_from([2, 3, 4, 6]),
    st.sampled_from([0, 1]),
    st.integers(0, 63),
)


def fit(tree: Tree, used: int) -> Tree:
    """The tree, which cannot choose to loop over rows of one chunk."""
    return tree if used // 16 > 3 else dataclasses.replace(tree, unrolled=1)


@settings(max_examples=12, deadline=None)
@example(Tree(1, 0, 1, 2, 2, 1, 0), 1, 17, 14)  # the last block begins otherwise than the others
@example(Tree(1, 0, 1, 2, 2, 1, 0), 2, 37, 14)
@given(TREES, st.integers(1, 5), st.integers(1, 36), st.integers(1, 220))
def test_no_decision_changes_what_a_tree_counts(tree: Tree, m: int, n: int, used: int) -> None:
    row_bytes = -(-used // 16) * 16
    nest = popcount_gemm(m, n, row_bytes, used_bytes=used)
    operands = [bits(m, row_bytes, used), bits(n, row_bytes, used)]
    (found,) = run_kernels([(decide(nest, fit(tree, used)), operands)])
    np.testing.assert_array_equal(found, meaning(nest, operands, []))


@pytest.mark.parametrize("device", ["emulator", "host"])
def test_no_tile_changes_what_is_counted(device: str) -> None:
    nest = popcount_gemm(8, 8, 16)
    operands = [bits(8, 16, 16), bits(8, 16, 16)]
    tiles = [Tile(rows, outputs) for rows in (1, 2, 4, 8) for outputs in (1, 4, 8)]
    found = run_kernels([(decide(nest, tile), operands) for tile in tiles], device)
    for result in found:
        assert wrong(nest, operands, [result]) == 0


def test_what_is_decided_is_read_back() -> None:
    bare, found = decided(decide(NEST, dataclasses.replace(USUAL, rows=1)), "aarch64")
    assert found == dataclasses.replace(USUAL, rows=1)
    assert tvm_ffi.structural_equal(bare, NEST)


def test_a_nest_without_decisions_gets_the_first_values() -> None:
    _, found = decided(NEST, "aarch64")
    first = {name: values[0] for name, values in spaces(NEST, "aarch64")["tree"].items()}
    assert found == Tree(**first)


def test_the_defaults_written_down_give_the_kernel_without_decisions() -> None:
    (annotated, *_) = annotate(NEST, "aarch64", tunable=False)
    given = schedule(annotated.mod["main"], "aarch64").assembly
    assert given == schedule(NEST, "aarch64").assembly


def test_tunable_schedules_sample_every_decision() -> None:
    for made, decisions in zip(
        annotate(NEST, "aarch64", tunable=True), spaces(NEST, "aarch64").values(), strict=True
    ):
        sampled = [step for step in made.trace.insts if step.kind.name == "SampleCategorical"]
        assert len(sampled) == len(decisions)


def test_other_kernels_have_no_decisions() -> None:
    assert spaces(threshold(4, 16, greater=True), "aarch64") == {}


def test_the_tree_comes_first() -> None:
    assert list(spaces(NEST, "aarch64")) == ["tree", "interleaved", "tile"]


def test_x86_and_groups_have_tiles_only() -> None:
    assert list(spaces(NEST, "x86_64")) == ["tile"]
    assert list(spaces(grouped_popcount_gemm(2, 4, 4, 16), "aarch64")) == ["tile"]


@pytest.mark.parametrize(
    "decisions", [dataclasses.replace(USUAL, rows=3), Interleaved(64, 4, 4, 0), Tile(4, 2)]
)
def test_decisions_that_a_nest_cannot_take_are_refused(decisions: Decisions) -> None:
    with pytest.raises(ValueError, match="none of this kernel's"):
        decided(decide(NEST, decisions), "aarch64")


@pytest.mark.parametrize("decisions", [USUAL, Interleaved(32, 4, 4, 1), Tile(4, 2)])
def test_decisions_survive_a_manifest(decisions: Decisions) -> None:
    assert from_json(to_json(decisions)) == decisions
