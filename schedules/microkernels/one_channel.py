"""A float convolution of one channel, PReLU included: exact AArch64 assembly for one shape.

The first layer of a network that hears: one channel in, many out. A tile is four positions of a row
times 16 outputs, in 16 registers. What the four see of an image row lies in a few registers, and
every multiply-add picks its lane; a tap's 16 weights are loaded once a tile. The image is copied
into a frame of zeros first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bicompile.schedules.microkernels.instructions import (
    FLOAT_LATENCY,
    Instruction,
    accumulating,
    add_constant,
    floating,
    load_at,
    load_by,
    load_pair,
    load_pair_at,
    store_pair_at,
)
from bicompile.schedules.microkernels.list_scheduler import in_two_stages, schedule

POSITIONS, OUTPUTS = 4, 16
"""Of a tile."""

REGISTERS = """\
v0-v7, v11-v13, v15  weights of three taps in turn; v8-v10 an image row; v14 slope
v16-v31  sums: 4 vectors of outputs of each of 4 positions
x0 image, x1 weights, x2 bias, x4 results, x5 frame; x6 what the tile sees, x7 weights to come;
x8 rows, x9 tiles left, x10 blocks of outputs left, x11 frame row, x12 results of the block
x13 from a frame row to the next, x14 rows of taps left"""

_SLOPE = "v14"
_WEIGHTS = (("v0", "v1", "v2", "v3"), ("v4", "v5", "v6", "v7"), ("v11", "v12", "v13", "v15"))
_SEEN = ("v8", "v9", "v10")
_SUMS = [[f"v{16 + 4 * position + c}" for c in range(4)] for position in range(POSITIONS)]
_LANES = 4


@dataclass(frozen=True)
class OneChannel:
    """What a kernel computes: (H, W) float32 → (H', W', O) float32.

    Attributes:
        image: H and W, a multiple of 4.
        output: H' and W', a multiple of 4.
        outputs: a multiple of 16, at most 64.
        kernel: kh and kw.
        stride: the same down and across.
        pads: zeros above and to the left; H', W' say what there is on the other sides.
    """

    image: tuple[int, int]
    output: tuple[int, int]
    outputs: int
    kernel: tuple[int, int]
    stride: int
    pads: tuple[int, int]

    @property
    def name(self) -> str:
        """A name of its own."""
        sizes = [*self.image, *self.output, self.outputs, *self.kernel, self.stride, *self.pads]
        return "one_channel_" + "_".join(map(str, sizes))

    @property
    def vectors(self) -> int:
        """Vectors of an image row that a tile sees."""
        return -(-(self.stride * (POSITIONS - 1) + self.kernel[1]) // _LANES)

    @property
    def frame(self) -> tuple[int, int]:
        """Rows and columns of the framed image, with what vectors read too much."""
        rows = self.stride * (self.output[0] - 1) + self.kernel[0]
        columns = self.stride * (self.output[1] - POSITIONS) + _LANES * self.vectors
        seen = self.pads[0] + self.image[0], self.pads[1] + self.image[1]
        return max(rows, seen[0]), -(-max(columns, seen[1]) // _LANES) * _LANES

    def fits(self) -> bool:
        """Whether there is a kernel."""
        return (
            self.image[1] % _LANES == 0
            and self.output[1] % POSITIONS == 0
            and self.outputs % OUTPUTS == 0
            and self.outputs <= 64
            and self.vectors <= len(_SEEN)
            and self.kernel[0] * self.frame[1] * 4 < 2**16
        )


def lay_out(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """(O, kh, kw) as the kernel reads them: (O / 16, kh, kw, 16)."""
    blocks = weights.reshape(-1, OUTPUTS, *weights.shape[1:])
    return np.ascontiguousarray(np.moveaxis(blocks, 1, -1))


def assembly(shape: OneChannel) -> str:
    """The kernel as a local function (image, weights, bias, slope, results, frame)."""
    name = shape.name
    rows, tiles = shape.output[0], shape.output[1] // POSITIONS
    blocks = shape.outputs // OUTPUTS
    row_bytes = 4 * shape.frame[1]
    lines = [f"stp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(8, 16, 2)]
    lines[0] = "stp d8, d9, [sp, #-64]!"
    lines += ["ld1r {v14.4s}, [x3]", *_framed(shape)]
    lines += [f"mov x13, #{row_bytes}"]
    lines += [f"mov x10, #{blocks}", f".L{name}_blocks:", "mov x12, x4", "mov x11, x5"]
    lines += [f"mov x8, #{rows}", f".L{name}_rows:", "mov x6, x11"]
    lines += [f"mov x9, #{tiles}", f".L{name}_tiles:", "mov x7, x1"]
    lines += _tile(shape)
    lines += [
        *_moved("x6", 4 * shape.stride * POSITIONS - shape.kernel[0] * row_bytes),
        f"add x12, x12, #{4 * POSITIONS * shape.outputs}",
        "subs x9, x9, #1",
        f"b.ne .L{name}_tiles",
        *_moved("x11", shape.stride * row_bytes),
        "subs x8, x8, #1",
        f"b.ne .L{name}_rows",
        "mov x1, x7",
        f"add x2, x2, #{4 * OUTPUTS}",
        f"add x4, x4, #{4 * OUTPUTS}",
        "subs x10, x10, #1",
        f"b.ne .L{name}_blocks",
    ]
    lines += [f"ldp d{n}, d{n + 1}, [sp, #{8 * n - 64}]" for n in range(10, 16, 2)]
    lines += ["ldp d8, d9, [sp], #64", "ret"]
    about = "\n".join(f"// {line}" for line in REGISTERS.splitlines())
    body = "\n".join(line if line.endswith(":") else f"\t{line}" for line in lines)
    return (
        f"{about}\n\t.text\n\t.p2align 4\n\t.type {name}, %function\n{name}:\n{body}\n"
        f"\t.size {name}, . - {name}\n"
    )


def _framed(shape: OneChannel) -> list[str]:
    """Clear the frame and copy the image into it."""
    height, width = shape.image
    top, left = shape.pads
    row_bytes = 4 * shape.frame[1]
    pairs, odd = divmod(width // _LANES, 2)
    lines = [
        "movi v0.4s, #0",
        "mov x6, x5",
        f"mov x8, #{shape.frame[0] * shape.frame[1] // _LANES}",
        f".L{shape.name}_clear:",
        "str q0, [x6], #16",
        "subs x8, x8, #1",
        f"b.ne .L{shape.name}_clear",
        "mov x6, x5",
        *_moved("x6", top * row_bytes + 4 * left),
        f"mov x8, #{height}",
        f".L{shape.name}_copy:",
    ]
    lines += ["ldp q0, q1, [x0], #32", "stp q0, q1, [x6], #32"] * pairs
    lines += ["ldr q0, [x0], #16", "str q0, [x6], #16"] * odd
    lines += _moved("x6", row_bytes - 4 * width)
    return [*lines, "subs x8, x8, #1", f"b.ne .L{shape.name}_copy"]


def _tile(shape: OneChannel) -> list[str]:
    """Four positions times 16 outputs."""
    begin: list[Instruction] = []
    for total in _SUMS:
        for pair in (0, 1):
            registers = total[2 * pair : 2 * pair + 2]
            begin.append(load_pair_at(registers[0], registers[1], "x2", 32 * pair))
    rows = shape.kernel[0]
    stages = in_two_stages(_row(shape), "x14", last="ldp")
    lines = [f"mov x14, #{rows}", *_lines([*begin, *stages.begun(rows)])]
    lines += stages.turns(f".L{shape.name}_taps") if rows > 1 else []
    return lines + _lines([*stages.finish, *_results(shape)])


def _row(shape: OneChannel) -> list[Instruction]:
    """The taps of a row of the kernel."""
    program: list[Instruction] = []
    seen = _SEEN[: shape.vectors]
    for number, register in enumerate(seen[1:], start=1):
        program.append(load_at(register, "x6", 16 * number))
    program.append(load_by(seen[0], "x6", "x13"))
    for tap in range(shape.kernel[1]):
        weights = _WEIGHTS[tap % len(_WEIGHTS)]
        program.append(load_pair(weights[0], weights[1], "x7"))
        program.append(load_pair(weights[2], weights[3], "x7"))
        for position, total in enumerate(_SUMS):
            column, lane = divmod(shape.stride * position + tap, _LANES)
            for into, weight in zip(total, weights, strict=True):
                text = f"fmla {{}}.4s, {{}}.4s, {{}}.s[{lane}]"
                operands = (into, weight, seen[column])
                program.append(accumulating(text, *operands, latency=FLOAT_LATENCY))
    return program


def _results(shape: OneChannel) -> list[Instruction]:
    """PReLU and stores."""
    program: list[Instruction] = []
    for position, total in enumerate(_SUMS):
        for into, below in zip(total, _WEIGHTS[position % 2], strict=True):
            program.append(floating("fmul {}.4s, {}.4s, {}.4s", below, into, _SLOPE))
            program.append(floating("fmax {}.4s, {}.4s, {}.4s", into, into, below))
        for pair in (0, 1):
            offset = 4 * position * shape.outputs + 32 * pair
            program.append(store_pair_at(total[2 * pair], total[2 * pair + 1], "x12", offset))
    return program


def _lines(program: Sequence[Instruction]) -> list[str]:
    return [issued.instruction.text for issued in schedule(program)]


def _moved(register: str, distance: int) -> list[str]:
    return [step.text for step in add_constant(register, distance)]
