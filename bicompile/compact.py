"""Constants in fewer bytes without loss: kernels of their own spread them before they are read.

Float32 that is float16 throughout lies as that, float32 in equal steps as 8 or 16 bits each, whole
numbers of two kinds as one bit each, and a table of few distinct rows as those and a byte for each
row. What a kernel reads is then a buffer of the workspace, filled by a call just before.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tvm import te, tirx

from bicompile.program import Buffer, Call, Program
from bicompile.schedules import schedule
from bicompile.spread_workloads import Form, spread

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
    microkernels, functions = dict(program.microkernels), dict(program.functions)
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
                made = schedule(spread.nest(), arch)
                kernels[spread.name] = made.function
                microkernels.update(made.assembly)
                functions[spread.name] = next(iter(made.assembly), spread.name)
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
        microkernels=microkernels,
        functions=functions,
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
    return _spread("halves", halves)


def _as_steps(array: NDArray[np.generic]) -> _Spread | None:
    """Float32 whose numbers lie whole steps apart: which step each is, and where they begin.

    That is (first + level) · step where they lie whole steps from 0 too, else first + level · step.
    """
    if array.dtype != np.float32 or not np.isfinite(array).all() or not array.any():
        return None
    exact = array.ravel().astype(np.float64)
    _, exponents = np.frexp(exact[exact != 0])
    scale = _FLOAT_BITS - int(exponents.min())  # 2^scale times any of them is whole
    if exponents.max() + scale > _WHOLE_BITS:
        return None
    whole = np.ldexp(exact, scale).astype(np.int64)
    found = [_as_steps_of(form, array, whole, scale) for form in ("steps", "line")]
    return min(
        (spread for spread in found if spread is not None),
        key=lambda spread: spread.packed[0].nbytes,
        default=None,
    )


def _as_steps_of(
    form: Form, array: NDArray[np.generic], whole: NDArray[np.int64], scale: int
) -> _Spread | None:
    """One form of what is whole / 2^scale; None where a number would not be the same.

    No sum is rounded, and for "line" no product: it is the same where they are one instruction.
    """
    least, most = int(whole.min()), int(whole.max())
    step = int(np.gcd.reduce(whole if form == "steps" else whole - least))
    if step == 0 or (most - least) // step >= 2**16:
        return None
    levels = (whole - least) // step
    levels = levels.astype(np.uint8 if levels.max() < 2**8 else np.uint16)
    counted, stride = levels.astype(np.float32), np.ldexp(float(step), -scale)
    if form == "steps":
        line = np.array([least // step, stride], np.float32)
        is_exact = max(abs(least), abs(most)) // step < 2**_FLOAT_BITS
        made = (line[0] + counted) * line[1]
    else:
        line = np.array([np.ldexp(float(least), -scale), stride], np.float32)
        made = line[0] + counted * line[1]
        is_exact = np.array_equal(counted * line[1], counted.astype(np.float64) * line[1])
        is_exact = is_exact and np.array_equal(made, line[0] + np.float64(counted) * line[1])
    if not is_exact or made.tobytes() != array.tobytes():
        return None
    return _spread(form, levels, line)


def _spread(form: Form, numbers: NDArray[np.generic], *line: NDArray[np.float32]) -> _Spread:
    n, dtype = numbers.size, str(numbers.dtype)
    return _Spread(f"{form}_{dtype}_{n}", (numbers.ravel(), *line), lambda: spread(form, dtype, n))


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
