"""Runs networks in an emulated Python, for onnxruntime_arm64.py, which says what it is given.

Every run stands between two marks (see count_instructions.c). A line of output is what the last run
gave. Needs numpy and onnxruntime alone.
"""

import ctypes
import json
import sys
from collections.abc import Callable

import numpy as np
import onnxruntime

MARK, RUNS = 4242, 8


def onnx_run(path: str, x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """A run in onnxruntime, one thread, all optimizations, input and output bound once."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    bound = session.io_binding()
    for name, array, bind in (
        (session.get_inputs()[0].name, x, bound.bind_input),
        (session.get_outputs()[0].name, y, bound.bind_output),
    ):
        bind(name, "cpu", 0, np.float32, array.shape, array.ctypes.data)
    return lambda: session.run_with_iobinding(bound)


def object_run(path: str, x: np.ndarray, y: np.ndarray, workspace: int) -> Callable[[], object]:
    """A call of the entry of an object of this project, linked to a shared library."""
    memory = np.zeros(workspace + 64, np.uint8)
    start = memory.ctypes.data + -memory.ctypes.data % 64
    entry = ctypes.CDLL(path).model_run
    pointers = [ctypes.c_void_p(at) for at in (x.ctypes.data, y.ctypes.data, start)]
    return lambda: (entry(*pointers), memory)


def main() -> None:
    """Run what the JSON of the only argument lists, and nothing as often before it."""
    mark = ctypes.CDLL(None).syscall
    for given in [None, *json.loads(sys.argv[1])]:
        run: Callable[[], object] = lambda: None  # noqa: E731 - what a mark and a call cost
        y = np.zeros(0, np.float32)
        if given is not None:
            generator = np.random.default_rng(0)
            x = generator.standard_normal(given["input"]).astype(np.float32)
            y = np.zeros(given["output"], np.float32)
            how = (given["path"], x, y)
            is_object = "workspace" in given
            run = object_run(*how, given["workspace"]) if is_object else onnx_run(*how)
        for _ in range(RUNS):
            mark(MARK)
            run()
            mark(MARK)
        print(json.dumps(y.ravel().tolist()), flush=True)


if __name__ == "__main__":
    main()
