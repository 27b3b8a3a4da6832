"""Instructions that plain TIR does not reach, each beside its meaning."""

from typing import Any

from tvm import tirx
from tvm.script import tirx as T


def sum_of_bytes(lanes: Any, arch: str) -> tirx.Expr:
    """Σ of 16 unsigned 8-bit lanes as int32. aarch64: UADDLV; elsewhere LLVM's reduction."""
    if arch == "aarch64":
        total = T.call_llvm_pure_intrin("uint32", "llvm.aarch64.neon.uaddlv.i32.v16i8", lanes)
    else:
        wide = T.cast(lanes, "uint32x16")
        total = T.call_llvm_pure_intrin("uint32", "llvm.vector.reduce.add.v16i32", wide)
    return T.cast(total, "int32")


def sum_of_distinct_bits(lanes: Any) -> tirx.Expr:
    """Σ of 8 unsigned 8-bit lanes that share no set bit, as uint8. aarch64: ADDV .8b."""
    return T.call_llvm_pure_intrin("uint8", "llvm.vector.reduce.add.v8i8", lanes)
