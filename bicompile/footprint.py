"""What a compiled model takes: flash, workspace and stack, each in bytes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import onnx
from elftools.elf.elffile import ELFFile

from bicompile.artifact import Executable
from bicompile.branches import Branch
from bicompile.layer_sizes import may_be_layer


@dataclass(frozen=True)
class Memory:
    """What one width needs while it runs.

    Attributes:
        workspace_bytes: the peak of its memory plan.
        live_bytes: the largest sum of what lives at one call: no plan needs less.
        stack_bytes: the deepest stack of a run on the emulator; None where that cannot run it.
    """

    workspace_bytes: int
    live_bytes: int
    stack_bytes: int | None


@dataclass(frozen=True)
class Footprint:
    """What an object takes.

    Attributes:
        code_bytes: of the stripped object.
        constant_bytes: of the stripped object.
        float_bytes: what the weights of the model's layers take as float32.
        memory: of every width, in the order of the object's widths.
    """

    code_bytes: int
    constant_bytes: int
    float_bytes: int
    memory: tuple[Memory, ...]

    @property
    def flash_bytes(self) -> int:
        """Code and constants."""
        return self.code_bytes + self.constant_bytes

    @property
    def times_smaller(self) -> float:
        """How many times the flash goes into the float32 weights."""
        return self.float_bytes / self.flash_bytes

    def flash_to_json(self) -> dict[str, int]:
        """What `compile --json` prints of the object."""
        names = ("code_bytes", "constant_bytes", "flash_bytes", "float_bytes")
        return {name: getattr(self, name) for name in names}


def footprint(
    executable: Executable, branches: Sequence[Branch], models: Iterable[onnx.ModelProto]
) -> Footprint:
    """Measure an object; `models` are those of the branches as they were loaded."""
    with executable.object.open("rb") as file:
        sizes = {section.name: section["sh_size"] for section in ELFFile(file).iter_sections()}
    memory = [
        Memory(
            branch.plan.workspace_bytes,
            branch.plan.live_bytes,
            _stack_bytes(replace(executable, width=branch.width)),
        )
        for branch in branches
    ]
    float_bytes = max(_float_bytes(model.graph) for model in models)  # widths share their weights
    return Footprint(sizes[".text"], sizes.get(".rodata", 0), float_bytes, tuple(memory))


def _stack_bytes(executable: Executable) -> int | None:
    if executable.target.arch != "aarch64":
        return None
    from bicompile.devices.emulator import Emulator  # other targets do without it

    with Emulator().load(executable) as loaded:
        return loaded.run(np.zeros((1, *executable.input.shape), np.float32)).stack_bytes


def _float_bytes(graph: onnx.GraphProto) -> int:
    """The second operands of layers, as far as the input has no part in them; each once."""
    values = (*graph.input, *graph.value_info, *graph.output)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}
    shapes |= {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    computed = {value.name for value in graph.input}
    weights: set[str] = set()
    for node in graph.node:
        if not computed.isdisjoint(node.input):
            computed.update(node.output)
        if may_be_layer(node):
            weights.update(name for name in node.input[:2] if name not in computed)
    return sum(4 * prod(shapes.get(name, [0])) for name in weights)
