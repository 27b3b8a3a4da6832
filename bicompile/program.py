"""A lowered network: kernels, buffers, constants, and the calls in order."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod

import numpy as np
from tvm import tirx

Layout = Callable[[np.ndarray], np.ndarray]
"""How a kernel wants a constant to lie."""


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
        microkernels: assembly by the name of the function that it defines; kernels call those.
        functions: by kernel, the function that does its work: a microkernel, or the kernel itself.
        layouts: by kernel and position of the argument, how that constant lies in the object.
            `constants` are as they were before: what kernels mean is said of those.
        compact: whether constants shall lie in as few bytes as they can without loss.
        unpacked: by the name of a buffer that holds a constant, spread out and laid out, the
            constant's name; see compact.
    """

    kernels: dict[str, tirx.PrimFunc]
    buffers: dict[str, Buffer]
    constants: dict[str, np.ndarray]
    calls: tuple[Call, ...]
    input: str
    output: str
    microkernels: Mapping[str, str] = field(default_factory=dict)
    functions: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, Mapping[int, Layout]] = field(default_factory=dict)
    compact: bool = False
    unpacked: Mapping[str, str] = field(default_factory=dict)
