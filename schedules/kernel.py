"""What a schedule makes of a nest."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tvm import tirx

from bicompile.program import Layout


@dataclass(frozen=True)
class Kernel:
    """A scheduled nest, and what it needs beside itself.

    Attributes:
        function: the TIR; its parameters are those of the nest.
        assembly: text by the name of the function that it defines; `function` calls those.
        layouts: for a parameter that is always a constant, by its position, how the constant must
            lie; the nest's meaning is that of the constant before.
        stand_in: makes the same by functions that other kernels may bring: a bit slower, and less
            code where they do.
    """

    function: tirx.PrimFunc
    assembly: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[int, Layout] = field(default_factory=dict)
    stand_in: "Callable[[], Kernel] | None" = None
