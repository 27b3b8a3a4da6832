"""One kernel on the bench: an object that runs it alone, its operands, a check of its results."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from bicompile.artifact import Executable, TensorSpec
from bicompile.build import build_object
from bicompile.driver import ENTRY
from bicompile.errors import UserError
from bicompile.meaning import patches_of, wrong
from bicompile.memory import plan_memory
from bicompile.program import Buffer, Call, Program
from bicompile.scheduling import schedule_program
from bicompile.targets import Target
from bicompile.workloads import IMAGE, USED_BYTES


class Bench:
    """Runs of one nest, whatever is decided of it.

    The rows are the program's input and the results its output, so that every device has them
    between guard pages or in buffers of their own; the other operands are constants.
    """

    def __init__(self, name: str, nest: tirx.PrimFunc, target: Target) -> None:
        """Make operands: random ones, but the first row differs from the first weights in each bit.

        `name` is the kernel's in its program.
        """
        self.name = name
        self.nest = nest
        self.target = target
        self._operands = _operands(nest)
        result = nest.params[-1].ty
        self._result = Buffer(tuple(int(dim) for dim in result.shape), str(result.dtype))

    @property
    def input(self) -> NDArray[np.float32]:
        """The bytes of the rows, or of the image, as the program's entry takes them."""
        first = self._operands[0].reshape(-1)
        return np.pad(first, (0, -len(first) % 4)).view(np.float32)

    def build(self, decided: tirx.PrimFunc, obj: Path) -> Executable:
        """Build the object `obj` of the nest with what is decided of it."""
        rows, *others = self._operands
        names = [f"operand{i}" for i in range(len(others))]
        program = Program(
            {"kernel": decided},
            {"input": Buffer(rows.shape, str(rows.dtype)), "output": self._result},
            dict(zip(names, others, strict=True)),
            (Call("kernel", ("input", *names), ("output",), ""),),
            "input",
            "output",
        )
        program = schedule_program(program, self.target.arch)
        plan = plan_memory(program)
        build_object(program, plan, self.target, obj)
        specs = TensorSpec("rows", self.input.shape), TensorSpec("result", self._shape)
        return Executable(obj, ENTRY, *specs, plan.workspace_bytes, self.target)

    @property
    def _shape(self) -> tuple[int, ...]:
        return (-(-self._result.nbytes // 4),)

    def check(self, output: NDArray[np.float32]) -> None:
        """Raise UserError unless this is what the nest means; integers to the bit."""
        given = output.reshape(-1).view(np.uint8)[: self._result.nbytes]
        result = given.view(self._result.dtype).reshape(self._result.shape)
        differing = wrong(self.nest, self._operands, [result])
        if differing:
            raise UserError(f"{differing} of {result.size} results are wrong")


def _operands(nest: tirx.PrimFunc) -> list[NDArray[np.generic]]:
    generator = np.random.default_rng(0)
    made: list[NDArray[np.generic]] = []
    for position, parameter in enumerate(nest.params[:-1]):
        shape, dtype = tuple(int(dim) for dim in parameter.ty.shape), str(parameter.ty.dtype)
        if dtype == "uint8":
            bits = generator.integers(0, 256, shape, np.uint8)
            used = int(nest.attrs.get(USED_BYTES, shape[1]))
            has_image = IMAGE in nest.attrs
            if position == 1 or not has_image:
                bits[:, used:] = 0
            if position == 1:
                first = made[0].view(np.uint8)
                rows = patches_of(nest, first) if has_image else first
                bits[0, :used] = rows[0, :used] ^ 255
            made.append(bits)
        elif parameter.name == "limits":
            most = 8 * int(nest.attrs[USED_BYTES])
            made.append(generator.integers(-1, most + 1, shape, np.int32))
        elif dtype == "int32":
            made.append(2 * generator.integers(-500, 500, shape, np.int32))
        elif parameter.name == "slope":
            made.append(np.full(shape, 0.25, np.float32))
        else:
            made.append(generator.standard_normal(shape).astype(np.float32))
    return made
