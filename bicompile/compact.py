"""Constants in fewer bytes without loss: kernels of their own spread them before they are read.

Float32 that is float16 throughout lies as that, float32 in equal steps as 16 bits each, whole
numbers of two kinds as one bit each, and a table of few distinct rows as those and a byte for each
row. What a kernel reads is then a buffer of
the workspace, filled by a call just before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm import te, tirx

from bicompile.program import Buffer, Call, Program
from bicompile.schedules import schedule

_LEAST_SAVED = 128
"""Bytes; a call that saves less is not worth its code."""

_MOST_ROWS = 256

_FLOAT_BITS, _WHOLE_BITS = 24, 62


@dataclass(frozen=True)
class _Spread:
    """What lies in the object for one constant, and the nest that makes the constant from it."""

    name: str
    packed: tuple[NDArray[np.generic], ...]
    nest: Callable[[], tirx.PrimFunc]


def compacted(program: Program, arch: str) -> Program:
    """A scheduled program with its constants compacted, as they lie for the kernels.

    `unpacked` of the result names the constant that every new buffer holds. Programs keep one name
    for equal kernels.
    """
    kernels, buffers = dict(program.kernels), dict(program.buffers)
    constants = dict(program.constants)
    unpacked: dict[str, str] = {}
    calls: list[Call] = []
    for call in program.calls:
        layouts = program.layouts.get(call.kernel, {})
        inputs = list(call.inputs)
        spread_here: dict[tuple[str, bytes], str] = {}
        for index, name in enumerate(call.inputs):
            if name not in program.constants:
                continue
            array = program.constants[name]
            array = layouts[index](array) if index in layouts else array
            spread = _smallest(array)
            if spread is None:
                continue
            key = (str(array.dtype), array.tobytes())
            if key in spread_here:  # as a binarizer's second thresholds are its shifts
                inputs[index] = spread_here[key]
                continue
            if spread.name not in kernels:
                kernels[spread.name] = schedule(spread.nest(), arch).function
            buffer = f"unpacked{len(unpacked)}"
            packed = [f"{buffer}_{part}" for part in range(len(spread.packed))]
            constants.update(zip(packed, spread.packed, strict=True))
            buffers[buffer] = Buffer(array.shape, str(array.dtype))
            calls.append(Call(spread.name, tuple(packed), (buffer,), ""))
            unpacked[buffer] = name
            inputs[index] = spread_here[key] = buffer
        calls.append(replace(call, inputs=tuple(inputs)))
    return replace(
        program,
        kernels=kernels,
        buffers=buffers,
        constants=constants,
        calls=tuple(calls),
        unpacked=unpacked,
    )


def _smallest(array: NDArray[np.generic]) -> _Spread | None:
    forms = [form(array) for form in (_as_halves, _as_steps, _as_bits, _as_rows)]
    sizes = [(sum(part.nbytes for part in form.packed), form) for form in forms if form is not None]
    size, form = min(sizes, key=lambda each: each[0], default=(array.nbytes, None))
    return form if size + _LEAST_SAVED <= array.nbytes else None


def _as_halves(array: NDArray[np.generic]) -> _Spread | None:
    """Float32 that float16 holds exactly."""
    if array.dtype != np.float32:
        return None
    with np.errstate(over="ignore"):
        halves = array.astype(np.float16)
    if not np.array_equal(halves.astype(np.float32), array):
        return None
    n = array.size

    def nest() -> tirx.PrimFunc:
        source = te.placeholder((n,), "float16", "halves")
        return _nest([source], te.compute((n,), lambda i: source[i].astype("float32"), "floats"))

    return _Spread(f"widen_{n}", (halves.ravel(),), nest)


def _as_steps(array: NDArray[np.generic]) -> _Spread | None:
    """Float32 whose numbers lie whole steps apart: which step each is, and the first and a step."""
    if array.dtype != np.float32 or not np.isfinite(array).all() or not array.any():
        return None
    exact = array.ravel().astype(np.float64)
    _, exponents = np.frexp(exact[exact != 0])
    scale = _FLOAT_BITS - int(exponents.min())  # 2^scale times any of them is whole
    if exponents.max() + scale > _WHOLE_BITS:
        return None
    whole = np.ldexp(exact, scale).astype(np.int64)
    apart = whole - whole.min()
    step = int(np.gcd.reduce(apart))
    if step == 0 or apart.max() // step >= 2**16:
        return None
    levels = (apart // step).astype(np.uint16)
    line = np.array([exact.min(), np.ldexp(float(step), -scale)], np.float32)
    if (line[0] + levels * line[1]).tobytes() != array.tobytes():
        return None
    n = array.size

    def nest() -> tirx.PrimFunc:
        source = te.placeholder((n,), "uint16", "levels")
        given = te.placeholder((2,), "float32", "line")
        made = te.compute((n,), lambda i: given[0] + source[i].astype("float32") * given[1])
        return _nest([source, given], made)

    return _Spread(f"step_{n}", (levels, line), nest)


def _as_bits(array: NDArray[np.generic]) -> _Spread | None:
    """Two unsigned numbers, one bit each: the lowest bit of a byte comes first."""
    if array.dtype.kind != "u" or array.size % 8:
        return None
    values = np.unique(array)
    if len(values) != 2:
        return None
    low, high = (int(value) for value in values)
    n, dtype = array.size, str(array.dtype)
    packed = np.packbits(array.ravel() == high, bitorder="little")

    def nest() -> tirx.PrimFunc:
        source = te.placeholder((n // 8,), "uint8", "bits")

        def one(i: tirx.Var, bit: tirx.Var) -> tirx.Expr:
            is_set = (source[i] & tirx.shift_left(tirx.const(1, "uint8"), bit.astype("uint8"))) != 0
            return tirx.Select(is_set, tirx.const(high, dtype), tirx.const(low, dtype))

        return _nest([source], te.compute((n // 8, 8), one, "numbers"))

    return _Spread(f"spread_{n}_{dtype}_{low:x}_{high:x}", (packed,), nest)


def _as_rows(array: NDArray[np.generic]) -> _Spread | None:
    """Few distinct rows of four bytes a number, and which of them each row is."""
    if array.ndim != 2 or array.dtype not in (np.float32, np.int32):
        return None
    # By their bits: −0 and 0 are not the same.
    distinct, chosen = np.unique(array.view(np.uint32), axis=0, return_inverse=True)
    if len(distinct) > _MOST_ROWS:
        return None
    (rows, columns), count, dtype = array.shape, len(distinct), str(array.dtype)

    def nest() -> tirx.PrimFunc:
        source = te.placeholder((count, columns), dtype, "distinct")
        which = te.placeholder((rows,), "uint8", "chosen")
        made = te.compute(
            (rows, columns), lambda i, j: source[which[i].astype("int32"), j], "table"
        )
        return _nest([source, which], made)

    packed = (distinct.view(array.dtype), chosen.ravel().astype(np.uint8))
    return _Spread(f"repeat_{count}_{rows}x{columns}_{dtype}", packed, nest)


def _nest(sources: Sequence[te.Tensor], result: te.Tensor) -> tirx.PrimFunc:
    return te.create_prim_func([*sources, result]).without_attr("global_symbol")
