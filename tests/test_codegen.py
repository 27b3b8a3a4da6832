import re
from pathlib import Path

import onnx
import pytest
from disassembly import functions
from tvm import tirx

from bicompile.codegen import emit_assembly
from bicompile.lower import lower
from bicompile.schedules import schedule
from bicompile.targets import Target, all_targets, find_target
from bicompile.workloads import KIND, patches, popcount_gemm, threshold

ARM64 = [target for target in all_targets() if target.arch == "aarch64" and target.name != "host"]
VECTOR_COUNT = re.compile(r"\bcnt\s+v\d+\.16b")
VECTOR_COMPARE = re.compile(r"\bfcm(ge|gt)\s+v\d+\.4s")


def assembly(kernel: tirx.PrimFunc, target: Target) -> str:
    scheduled = schedule(kernel, target.arch)
    text = emit_assembly({"kernel": scheduled.function}, target)
    return "\n".join([text, *scheduled.assembly.values()])


@pytest.mark.parametrize("target", ARM64, ids=lambda target: target.name)
@pytest.mark.parametrize(("m", "n"), [(8, 8), (1, 12), (3, 5)])
def test_a_popcount_gemm_counts_in_whole_vectors(target: Target, m: int, n: int) -> None:
    text = assembly(popcount_gemm(m, n, 64), target)
    assert VECTOR_COUNT.search(text)
    assert "cnt\tv" not in VECTOR_COUNT.sub("", text)
    assert not re.search(r"\b(ldrb|umov)\b", text), "bytes are handled one by one"


@pytest.mark.parametrize("target", ARM64, ids=lambda target: target.name)
@pytest.mark.parametrize("greater", [True, False], ids=["ge", "le"])
def test_a_threshold_of_whole_bytes_compares_vectors(target: Target, greater: bool) -> None:
    text = assembly(threshold(6, 40, greater=greater), target)
    assert VECTOR_COMPARE.search(text)
    assert not re.search(r"\bfcmp\b", text), "floats are compared one by one"


def test_kernels_are_local_symbols() -> None:
    kernels = {"first": threshold(1, 8, greater=True), "second": popcount_gemm(1, 1, 16)}
    text = emit_assembly(kernels, find_target("cortex-a53"))
    assert ".globl" not in text
    assert {"first:", "second:"} <= set(text.splitlines())


def test_every_binary_kernel_of_a_compiled_network_is_vectorized(compiled_folder: Path) -> None:
    program = lower(onnx.load(compiled_folder / "lowered.onnx"))
    code = {
        name: "\n".join(lines) for name, lines in functions(compiled_folder / "model.o").items()
    }
    kinds = {name: str(kernel.attrs.get(KIND, "")) for name, kernel in program.kernels.items()}
    counted = {
        name for kernel in program.kernels.values() for name in schedule(kernel, "aarch64").assembly
    }
    for name in counted:
        assert VECTOR_COUNT.search(code[name]), name
    for name, kind in kinds.items():
        if kind == "threshold" and int(program.kernels[name].params[0].ty.shape[1]) % 8 == 0:
            assert VECTOR_COMPARE.search(code[name]), name
    assert sum("popcount" in kind for kind in kinds.values()) >= 3
    counting = {name for name, text in code.items() if re.search(r"\bcnt ", text)}
    assert counting == counted


def test_patches_of_wide_pixels_move_more_than_a_byte_at_a_time() -> None:
    nest = patches(
        (1, 4, 4, 16), (1, 3), (4, 2), strides=(1, 1), pads=(0, 0), dilations=(1, 1), row_bytes=48
    )
    text = assembly(nest, find_target("cortex-a53"))
    assert re.search(r"\bldr\s+q|\bldp\s+q|\bld1\b", text)
