"""A depthwise layer of two planes, four channels at once: exact AArch64 assembly for one shape.

All frames of four channels stay in registers. A frame is binarized to e = b₁ + 16·b₂, so that one
multiply-add a tap convolves both planes: C = a₁ + 16·a₂ with |a₁| < 8, and a₂ is C / 16 rounded.
All of that is exact. The frames of padding are all alike and are binarized once.
"""

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.instructions import (
    FLOAT_LATENCY,
    Instruction,
    accumulating,
    add_constant,
    floating,
    load,
    load_at,
    load_repeated_at,
    load_single,
    store,
    store_at,
    vector,
)
from bicompile.schedules.microkernels.list_scheduler import in_two_stages

MOST_TAPS = 7
"""So that a₁ is told apart from 16·a₂."""

MOST_FRAMES = 8
"""So that all frames stay in registers."""

REGISTERS = """\
v0 1, v1 −1, v2 16, 1/16, slope, 1/frames; v3-v11 frames, the last for padding; v12 sign bits;
v13-v31 values
x0 x, x1 thresholds, shifts and, if they are others, second thresholds of four channels after those
of the four before; x2 multipliers, x3 shifts, x4 taps, x6 y, x7 scales, all to come, but x1 stays
where thresholds are those of all channels, and x2 where there is one multiplier; x8 groups of
channels left"""

_ONE, _MINUS, _NUMBERS, _SIGNS = "v0", "v1", "v2", "v12"
_SIXTEEN, _SIXTEENTH, _SLOPE, _SHARE = (f"v2.s[{lane}]" for lane in range(4))
_FRAMES = [f"v{n}" for n in range(3, 12)]
_VALUES = [f"v{n}" for n in range(13, 32)]


@dataclass(frozen=True)
class Depthwise:
    """What a kernel computes: (frames, channels) → (frames + pads − taps + 1, channels) float32.

    Attributes:
        frames: of x, at most MOST_FRAMES.
        channels: a multiple of 4.
        taps: at most MOST_TAPS.
        pads: frames of zeros before and after.
        greater: for either plane, whether b is 1 by ≥; else by ≤.
        residual: whether x is added to the result, which then has as many frames.
        same: whether the second thresholds are the shifts of the binarizer.
        uniform: whether thresholds and shifts of the binarizer are those of all channels.
        one_multiplier: whether it is that of all channels.
    """

    frames: int
    channels: int
    taps: int
    pads: tuple[int, int]
    greater: tuple[bool, bool]
    residual: bool
    same: bool
    uniform: bool
    one_multiplier: bool

    @property
    def name(self) -> str:
        """A name of its own."""
        directions = "".join("ge" if greater else "le" for greater in self.greater)
        window = f"{self.taps}_{self.pads[0]}_{self.pads[1]}"
        kind = ("_residual" if self.residual else "") + ("_same" if self.same else "")
        kind += "_uniform" if self.uniform else ""
        kind += "_one_multiplier" if self.one_multiplier else ""
        return f"dual_depthwise_{self.frames}x{self.channels}_{window}_{directions}{kind}"

    def fits(self) -> bool:
        """Whether there is a kernel."""
        return (
            max(self.frames, self.results) <= MOST_FRAMES
            and self.taps <= MOST_TAPS
            and self.channels % 4 == 0
            and sum(self.pads) <= 16
            and max(self.frames, self.results) * self.channels <= 2**14  # offsets of loads
        )

    @property
    def thresholds(self) -> int:
        """Rows of thresholds and shifts that it reads."""
        return 2 if self.same else 3

    @property
    def framed(self) -> int:
        """Frames with padding."""
        return self.frames + sum(self.pads)

    @property
    def results(self) -> int:
        """Frames of the result."""
        return self.framed - self.taps + 1


def lay_out_thresholds(constant: NDArray[np.float32]) -> NDArray[np.float32]:
    """(n, C) as the kernel reads it: (C / 4, n, 4); (n, 1) as those of four channels."""
    if constant.shape[1] == 1:
        constant = np.repeat(constant, 4, axis=1)
    grouped = constant.reshape(len(constant), -1, 4).transpose(1, 0, 2)
    return np.ascontiguousarray(grouped)


def lay_out_taps(taps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(k, C) of 0 and 1 as the kernel reads them: (C,) bytes, bit k is set where tap k is −1."""
    laid: NDArray[np.uint8] = np.packbits(taps == 0, axis=0, bitorder="little")[0]
    return laid


def assembly(shape: Depthwise) -> str:
    """The kernel as a local function.

    Of (x, thresholds, multipliers, shifts, taps, slope, y, scales).
    """
    name, groups = shape.name, shape.channels // 4
    stages = in_two_stages(_group(shape), "x8", last="frintn")
    share = int(np.float32(1 / shape.framed).view(np.uint32))
    lines = [f"stp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(8, 16, 2)]
    lines[0] = "stp d8, d9, [sp, #-64]!"
    lines += [
        "fmov v0.4s, #1.0",
        "fmov v1.4s, #-1.0",
        f"movi {_SIGNS}.4s, #0x80, lsl #24",
        "mov x8, #0x41800000",  # 16, and 1/16 beside it
        "movk x8, #0x3D80, lsl #48",
        "ldr w9, [x5]",
        f"mov w10, #{share & 0xFFFF}",
        f"movk w10, #{share >> 16}, lsl #16",
        "mov v2.d[0], x8",
        "mov v2.s[2], w9",
        "mov v2.s[3], w10",
    ]
    lines += [f"mov x8, #{groups}", *(step.text for step in stages.begun(groups))]
    lines += stages.turns(f".L{name}") if groups > 1 else []
    lines += [step.text for step in stages.finish]
    lines += [f"ldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["ldp d8, d9, [sp], #64", "ret"]
    about = "\n".join(f"// {line}" for line in REGISTERS.splitlines())
    body = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body}\n"
        f"\t.size {name}, . - {name}\n"
    )


class _Group:
    """Writes the program of four channels, in the order of its data."""

    def __init__(self, shape: Depthwise) -> None:
        self.program: list[Instruction] = []
        self._shape = shape
        self._free = deque(_VALUES)

    def value(self) -> str:
        return self._free.popleft()

    def done(self, *values: str) -> None:
        self._free.extend(values)

    def add(self, text: str, into: str, *sources: str) -> None:
        self.program.append(floating(text, into, *sources))

    def next(self, pointer: str) -> str:
        value = self.value()
        self.program.append(load(value, pointer))
        return value

    def repeated(self, pointer: str) -> str:
        value = self.value()
        self.program.append(load_repeated_at(value, pointer))
        return value


def _group(shape: Depthwise) -> list[Instruction]:
    """Four channels of every frame."""
    group = _Group(shape)
    constants = [group.value() for _ in range(shape.thresholds)]
    for index, value in enumerate(constants):
        group.program.append(
            load_at(value, "x1", 16 * index) if shape.uniform else load(value, "x1")
        )
    totals: list[str] = []
    for frame in range(shape.frames):
        x = group.value()
        group.program.append(load_at(x, "x0", 4 * shape.channels * frame))
        size = _binarize(group, shape, x, _FRAMES[frame], constants)
        if len(totals) < 2:
            totals.append(size)
        else:
            total = totals[frame % 2]
            group.add("fadd {}.4s, {}.4s, {}.4s", total, total, size)
            group.done(size)
    scale = _scale(group, shape, totals, constants)
    group.done(*constants)
    weights = _taps(group, shape.taps)
    totals = []
    for row in range(shape.results):
        seen = [_frame(shape, row + tap) for tap in range(shape.taps)]
        totals.append(group.value())
        group.add("fmul {}.4s, {}.4s, {}.4s", totals[row], seen[0], weights[0])
        for register, weight in zip(seen[1:], weights[1:], strict=True):
            _multiply_add(group, "fmla", totals[row], register, weight)
    group.done(*weights, *_FRAMES)
    multiplier = group.repeated("x2") if shape.one_multiplier else group.next("x2")
    for row, total in enumerate(totals):
        _finish(group, shape, row, total, scale, multiplier)
    return [
        *group.program,
        *(step for pointer in ("x0", "x3", "x6") for step in add_constant(pointer, 16)),
    ]


def _taps(group: _Group, count: int) -> list[str]:
    """Four channels' taps, −1 or 1: the bit of a tap becomes the sign of a 1."""
    signs = group.value()
    group.program += [
        load_single(signs, "x4"),
        vector("ushll {}.8h, {}.8b, #0", signs, signs),
        vector("ushll {}.4s, {}.4h, #0", signs, signs),
    ]
    taps = [group.value() for _ in range(count)]
    for number, tap in enumerate(taps):
        group.program += [
            vector(f"shl {{}}.4s, {{}}.4s, #{31 - number}", tap, signs),
            accumulating("bif {}.16b, {}.16b, {}.16b", tap, _ONE, _SIGNS),
        ]
    group.done(signs)
    return taps


def _binarize(group: _Group, shape: Depthwise, x: str, into: str, constants: list[str]) -> str:
    """b₁ + 16·b₂ of x, and |rest − shift| in the register that held x."""
    theta, move, theta2 = constants if len(constants) == 3 else (*constants, constants[1])
    second = group.value()
    for sign, threshold, greater in ((into, theta, 0), (second, theta2, 1)):
        sides = (x, threshold) if shape.greater[greater] else (threshold, x)
        group.program += [
            floating("fcmge {}.4s, {}.4s, {}.4s", sign, *sides),
            accumulating("bsl {}.16b, {}.16b, {}.16b", sign, _ONE, _MINUS),
        ]
        if sign is into:
            group.add("fsub {}.4s, {}.4s, {}.4s", x, x, sign)
    group.add("fabd {}.4s, {}.4s, {}.4s", x, x, move)
    _multiply_add(group, "fmla", into, second, _SIXTEEN)
    group.done(second)
    return x


def _multiply_add(group: _Group, verb: str, into: str, first: str, second: str) -> None:
    """into ± first · second; `second` may be one lane."""
    operand = second if "." in second else f"{second}.4s"
    text = f"{verb} {{}}.4s, {{}}.4s, {operand}"
    sources = (into, first, second.partition(".")[0])
    group.program.append(accumulating(text, *sources, latency=FLOAT_LATENCY))


def _multiply(group: _Group, into: str, first: str, lane: str) -> None:
    """first · one lane of the numbers."""
    group.add(f"fmul {{}}.4s, {{}}.4s, {lane}", into, first, _NUMBERS)


def _scale(group: _Group, shape: Depthwise, totals: list[str], constants: list[str]) -> str:
    """The mean of every channel, stored too; binarizes the frame of padding."""
    scale, *others = totals
    for other in others:
        group.add("fadd {}.4s, {}.4s, {}.4s", scale, scale, other)
        group.done(other)
    if sum(shape.pads):
        x, count = group.value(), group.value()
        group.program += [
            vector("movi {}.4s, #0", x),
            vector(f"fmov {{}}.4s, #{sum(shape.pads)}.0", count),
        ]
        size = _binarize(group, shape, x, _FRAMES[shape.frames], constants)
        _multiply_add(group, "fmla", scale, size, count)
        group.done(x, count)
    _multiply(group, scale, scale, _SHARE)
    group.program.append(store(scale, "x7"))
    return scale


def _frame(shape: Depthwise, framed: int) -> str:
    row = framed - shape.pads[0]
    return _FRAMES[row if 0 <= row < shape.frames else shape.frames]


def _finish(
    group: _Group, shape: Depthwise, row: int, total: str, scale: str, multiplier: str
) -> None:
    """A row of results: its planes taken apart, and the epilogue."""
    # The shift is read for every row anew: a multiply-add overwrites what it adds to.
    second, shift = group.value(), group.value()
    _multiply(group, second, total, _SIXTEENTH)
    group.add("frintn {}.4s, {}.4s", second, second)
    _multiply_add(group, "fmls", total, second, _SIXTEEN)
    _multiply_add(group, "fmla", total, second, scale)
    group.program.append(load_at(shift, "x3", 0))
    _multiply_add(group, "fmla", shift, total, multiplier)
    _multiply(group, second, shift, _SLOPE)
    group.add("fmax {}.4s, {}.4s, {}.4s", shift, shift, second)
    if shape.residual:
        group.program.append(load_at(second, "x0", 4 * shape.channels * row))
        group.add("fadd {}.4s, {}.4s, {}.4s", shift, shift, second)
    group.program.append(store_at(shift, "x6", 4 * shape.channels * row))
    group.done(total, second, shift)
