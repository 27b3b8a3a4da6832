"""This machine: the compiled network beside onnxruntime's float32, and where its time goes.

Both run in this process on one thread and take turns, ten calls each, so that whatever else the
machine does meets both; the ratio of every turn is kept, and the median and the quartiles of all
are printed. Ours is one call of the C entry through ctypes, the other `run_with_iobinding` with
input and output bound once and all optimizations on: neither copies anything in Python.

The float network of a width is the zoo's float twin with as many blocks as the width has. With
--profile every kernel is called alone, with the operands of a real run, in turn with all others;
what is printed is its share of them all.

    python tests/benchmarks/host_speed.py [--target NAME] [--profile] [WIDTH ...]
"""

import ctypes
import platform
import re
import tempfile
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from capstone import CS_ARCH_X86, CS_MODE_64, Cs
from elftools.elf.elffile import ELFFile

from bicompile import toolchain
from bicompile.artifact import Executable, read_artifact
from bicompile.audio import read_wav
from bicompile.build import build_object, laid_out
from bicompile.driver import constant_offsets
from bicompile.features import log_mel
from bicompile.lower import lower
from bicompile.memory import plan_memory
from bicompile.pipeline import compile_model
from bicompile.program import Call
from bicompile.recognise import find_clips
from bicompile.scheduling import schedule_program
from bicompile.targets import Target, find_target
from bicompile.zoo import clip_paths, onnx_file

NETWORK = "zoo:bifsmnv2-kws12"
BLOCKS = (8, 4, 2, 1)
"""Blocks of every width."""

_CALLS = 10
_ROUNDS = 400
_WARM_UP = 30

_REPEATS = 20
_MOST_ARGUMENTS = 24
_REPEAT = f"""
void repeat(void (*kernel)(), void **p, int times) {{
  while (times--) kernel({", ".join(f"p[{i}]" for i in range(_MOST_ARGUMENTS))});
}}
"""

Timed = Callable[[], object]


class Library:
    """An object loaded into this process, and the addresses of its local functions."""

    def __init__(self, executable: Executable, x: np.ndarray) -> None:
        """Link and load it; `x` is the input of every call."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.so"
            toolchain.link_shared(executable.object, path, executable.target)
            self._library = ctypes.CDLL(str(path))
            with path.open("rb") as file:
                table = ELFFile(file).get_section_by_name(".symtab")
                self._values = {s.name: s["st_value"] for s in table.iter_symbols()}
        self._entry = executable.entry
        sizes = (executable.input.nbytes, executable.output.nbytes, executable.workspace_bytes)
        self._memory = [np.zeros(size + 64, np.uint8) for size in sizes]
        starts = [memory.ctypes.data for memory in self._memory]
        self.input, self.output, self.workspace = (start + -start % 64 for start in starts)
        ctypes.memmove(self.input, x.ctypes.data, x.nbytes)

    def address(self, symbol: str) -> int:
        """Where a function or the table of constants lies."""
        entry = ctypes.cast(self._library[self._entry], ctypes.c_void_p).value or 0
        return int(entry + self._values[symbol] - self._values[self._entry])

    def run(self) -> Timed:
        """A call of the entry."""
        return called(self.address(self._entry), [self.input, self.output, self.workspace])


def called(address: int, pointers: Sequence[int]) -> Timed:
    """A call of a C function of pointers that returns nothing."""
    function = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * len(pointers))(address)
    arguments = [ctypes.c_void_p(pointer) for pointer in pointers]
    return lambda: function(*arguments)


def float_network(blocks: int) -> onnx.ModelProto:
    """The float twin without its blocks after the first so many."""
    with onnx_file(f"{NETWORK}-float", None) as (path, _):
        model = onnx.load(path)
    graph = model.graph

    def block(node: onnx.NodeProto) -> int:
        found = re.match(r"/blocks/(\d+)/", node.name)
        return int(found[1]) if found else -1

    last = {block(node): node.output[0] for node in graph.node}
    kept = [node for node in graph.node if block(node) < blocks]
    for node in kept:
        node.input[:] = [
            last[blocks - 1] if name == last[BLOCKS[0] - 1] else name for name in node.input
        ]
    del graph.node[:]
    graph.node.extend(kept)
    onnx.checker.check_model(model)
    return model


def float_run(model: onnx.ModelProto, x: np.ndarray) -> Timed:
    """A run of a float network in onnxruntime, on one thread."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # it warns of constants of the blocks that were left out
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    binding = session.io_binding()
    given = onnxruntime.OrtValue.ortvalue_from_numpy(x)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, given)
    shape = session.get_outputs()[0].shape
    result = onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32)
    binding.bind_ortvalue_output(session.get_outputs()[0].name, result)
    return lambda: session.run_with_iobinding(binding)


def seconds(timed: Timed) -> float:
    """Of one call, the mean of some."""
    start = time.perf_counter_ns()
    for _ in range(_CALLS):
        timed()
    return (time.perf_counter_ns() - start) / _CALLS / 1e9


def in_turns(*all_timed: Timed) -> np.ndarray:
    """Seconds of every call of every round: (rounds, calls)."""
    for _ in range(_WARM_UP):
        for timed in all_timed:
            seconds(timed)
    return np.array([[seconds(timed) for timed in all_timed] for _ in range(_ROUNDS)])


def compiled(width: int, target: Target, folder: Path) -> Executable:
    """The zoo's network; its passes are not checked again."""
    compile_model(NETWORK, target, folder, widths=[width], check=False)
    return read_artifact(folder).executable


def popcounts(executable: Executable) -> set[str]:
    """The instructions of x86-64 that count bits, of those in an object."""
    with executable.object.open("rb") as file:
        code = ELFFile(file).get_section_by_name(".text").data()
    disassembler = Cs(CS_ARCH_X86, CS_MODE_64)
    disassembler.skipdata = True
    names = {found.mnemonic for found in disassembler.disasm(code, 0)}
    return {name for name in names if "popcnt" in name}


def compare(width: int, target: Target, x: np.ndarray) -> None:
    """Print how many times as fast as the float network a width is."""
    with tempfile.TemporaryDirectory() as name:
        executable = compiled(width, target, Path(name) / "compiled")
        ours, used = Library(executable, x), popcounts(executable)
    times = in_turns(ours.run(), float_run(float_network(BLOCKS[width]), x))
    low, middle, high = np.percentile(times[:, 1] / times[:, 0], [25, 50, 75])
    here, there = np.median(times, axis=0) * 1e6
    print(
        f"width {width}, blocks {BLOCKS[width]}: {middle:.1f} times as fast "
        f"(quartiles {low:.1f} to {high:.1f}); medians {there:.0f} and {here:.1f} us; "
        f"counted by {', '.join(sorted(used)) or 'no popcount instruction'}"
    )


def profile(width: int, target: Target, x: np.ndarray) -> None:
    """Print every kernel's share of the time of all."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shipped = compiled(width, target, folder / "compiled")
        model = onnx.load(folder / "compiled" / "lowered.onnx")
        program = laid_out([schedule_program(lower(model), target.arch)])[0]
        plan = plan_memory(program, reuse=False)
        build_object(program, plan, target, folder / "model.o")
        library = Library(
            replace(shipped, object=folder / "model.o", workspace_bytes=plan.workspace_bytes), x
        )
        (folder / "repeat.c").write_text(_REPEAT)
        toolchain.compile_c(folder / "repeat.c", folder / "repeat.o", toolchain.this_machine())
        toolchain.link_shared(folder / "repeat.o", folder / "repeat.so", toolchain.this_machine())
        repeat = ctypes.CDLL(str(folder / "repeat.so")).repeat
    library.run()()
    constants, _ = constant_offsets(program.constants)

    def pointer(name: str) -> int:
        if name in program.constants:
            return library.address("constants") + constants[name]
        ends = {program.input: library.input, program.output: library.output}
        return ends[name] if name in ends else library.workspace + plan.offsets[name]

    def repeated(call: Call) -> Timed:
        pointers = [pointer(name) for name in (*call.inputs, *call.outputs)]
        arguments = (ctypes.c_void_p * _MOST_ARGUMENTS)(*pointers)
        kernel = ctypes.c_void_p(library.address(call.kernel))
        return lambda: repeat(kernel, arguments, _REPEATS)

    times = np.median(in_turns(*map(repeated, program.calls)), axis=0) / _REPEATS
    spent, layers = Counter[str](), dict[str, list[str]]()
    for call, each in zip(program.calls, times, strict=True):
        spent[call.kernel] += each
        layers.setdefault(call.kernel, []).append(call.layer)
    print(f"width {width}: share of the {len(times)} calls, calls, kernel, its first layer")
    for kernel, each in spent.most_common():
        calls = layers[kernel]
        share, alone = each / spent.total(), each / len(calls) * 1e6
        print(f"  {share:6.1%} {len(calls):3} x {alone:6.2f} us  {kernel}  {calls[0]}")
    print(f"  {spent.total() * 1e6:.1f} us in all, each alone")


def processor() -> str:
    """What the processor calls itself."""
    told = Path("/proc/cpuinfo")
    text = told.read_text() if told.is_file() else ""
    found = re.search(r"model name\s*:\s*(.+)", text)
    return found[1] if found else platform.processor()


def main() -> None:
    """Read the words of the command line."""
    parser = ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", default="host")
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("widths", nargs="*", type=int, default=range(len(BLOCKS)))
    arguments = parser.parse_args()
    target = find_target(arguments.target)
    print(f"{processor()}, target {target.name}")
    (clip, *_) = find_clips(clip_paths(["zoo:clips"]))
    x = log_mel(read_wav(clip).samples)
    for width in arguments.widths:
        (profile if arguments.profile else compare)(width, target, x)


if __name__ == "__main__":
    main()
