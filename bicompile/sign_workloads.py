"""A binary product of which only signs are used, as a naive TIR loop nest: counts, then bits."""

from typing import Any

from tvm import te, tirx

from bicompile.workloads import KIND, OPAQUE, USED_BYTES, bit, conv_nest, differing, rows_of

LIMITS = "bicompile.limits"
_BITS = 8


def popcount_threshold(
    rows: int,
    n: int,
    row_bytes: int,
    *,
    used_bytes: int,
    limits: int,
    patches: tirx.PrimFunc | None = None,
) -> tirx.PrimFunc:
    """Count and compare: (rows, row_bytes) bits, (N, row_bytes), limits → (rows, ceil(N / 8)) bits.

    A bit is set where at most limit bits differ: (L, N) int32 with L = 1 or rows. Bits after the
    last output are clear. With `patches`, a nest that lays out the rows, its operand, the bits of
    an image, takes their place (see popcount_conv).
    """
    if patches is None:
        seen = a = te.placeholder((rows, row_bytes), "uint8", "rows")
    else:
        seen, a = rows_of(patches)
    w = te.placeholder((n, row_bytes), "uint8", "weights")
    limit = te.placeholder((limits, n), "int32", "limits")
    k = te.reduce_axis((0, row_bytes), "k")
    count = te.compute((rows, n), lambda i, j: differing(a[i, k], w[j, k], k), "count")
    lane = te.reduce_axis((0, min(n, _BITS)), "lane")

    def packed(i: Any, byte: Any) -> Any:
        j = byte * _BITS + lane
        value = bit(count[i, j], limit[i if limits > 1 else 0, j], lane, greater=False)
        is_last_short = n > _BITS and n % _BITS
        zero = tirx.const(0, "uint8")
        return _union(tirx.if_then_else(j < n, value, zero) if is_last_short else value, axis=lane)

    bits = te.compute((rows, -(-n // _BITS)), packed, "pack")
    nest = te.create_prim_func([seen, w, limit, bits])
    attributes = {KIND: "popcount_threshold", "op_pattern": OPAQUE, USED_BYTES: used_bytes}
    for key, value in {**attributes, LIMITS: limits}.items():
        nest = nest.with_attr(key, value)
    return nest if patches is None else conv_nest(nest, patches, used_bytes)


_union = te.comm_reducer(lambda a, b: a | b, lambda dtype: tirx.const(0, dtype), "union")
