"""A lowered network: kernels, buffers, constants, and the calls in order."""

from dataclasses import dataclass
from math import prod

import numpy as np
from tvm import tirx


@dataclass(frozen=True)
class Buffer:
    """A tensor in the caller's memory or in the workspace."""

    shape: tuple[int, ...]
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its size in bytes."""
        return prod(self.shape) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True)
class Call:
    """One kernel call; arguments name buffers or constants, in the kernel's order."""

    kernel: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layer: str
    """The ONNX node behind a binary kernel; empty for the others."""


@dataclass(frozen=True)
class Program:
    """What is left of a network after lowering.

    Attributes:
        kernels: TIR by name; every parameter is a row-major buffer.
        buffers: the input, the output and everything between, by name.
        constants: arrays by name; equal arrays stand here once.
        calls: in the order of execution.
        input: name of the buffer that the caller fills.
        output: name of the buffer that the caller reads.
    """

    kernels: dict[str, tirx.PrimFunc]
    buffers: dict[str, Buffer]
    constants: dict[str, np.ndarray]
    calls: tuple[Call, ...]
    input: str
    output: str
