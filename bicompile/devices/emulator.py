"""An emulated arm64 processor in this process: exact instruction counts, memory under guard.

Input, output, workspace and stack each lie between unmapped pages, the input and everything that
belongs to the program cannot be written. What reads or writes elsewhere is a DeviceFault that says
which instruction did it and next to which buffer.
"""

import ctypes
import functools
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import unicorn
from capstone import CS_ARCH_ARM64, CS_MODE_ARM, Cs
from numpy.typing import NDArray
from unicorn import arm64_const as arm64
from unicorn import unicorn_const as uc
from unicorn.unicorn_py3.unicorn import uclib

from bicompile import toolchain
from bicompile.artifact import Executable
from bicompile.devices import (
    OUTPUT_FILL,
    WORKSPACE_FILL,
    DeviceFault,
    Loaded,
    RunResult,
    check_arm64,
    check_inputs,
)
from bicompile.devices.image import Image, link
from bicompile.devices.memory import PAGE, Buffer, Placement, place

STACK_BYTES = 64 * 1024
_RETURN = 0x9000_0000
_CPUS = {"cortex-a53": arm64.UC_CPU_ARM64_A53, "cortex-a72": arm64.UC_CPU_ARM64_A72}
_KEPT = {
    **{f"x{n}": getattr(arm64, f"UC_ARM64_REG_X{n}") for n in range(19, 30)},
    "sp": arm64.UC_ARM64_REG_SP,
    **{f"d{n}": getattr(arm64, f"UC_ARM64_REG_D{n}") for n in range(8, 16)},
}
_READS = (uc.UC_MEM_READ_UNMAPPED, uc.UC_MEM_READ_PROT)
_WRITES = (uc.UC_MEM_WRITE_UNMAPPED, uc.UC_MEM_WRITE_PROT)


@functools.cache
def _counter() -> ctypes.c_void_p:
    """Address of the block hook, compiled: one in Python would cost more than the emulation."""
    machine = toolchain.this_machine()
    with tempfile.TemporaryDirectory() as folder:
        obj, library = Path(folder) / "counter.o", Path(folder) / "counter.so"
        source = Path(__file__).with_name("counter.c")
        toolchain.compile_c(source, obj, machine, {"CODE_ADDRESS": toolchain.CODE_ADDRESS})
        toolchain.link_shared(obj, library, machine)
        return ctypes.cast(ctypes.CDLL(str(library)).count_block, ctypes.c_void_p)


class _Record(ctypes.Structure):
    """What the block hook writes; see counter.c."""

    _fields_ = (
        ("steps", ctypes.c_void_p),
        ("blocks", ctypes.c_void_p),
        ("capacity", ctypes.c_longlong),
        ("ran", ctypes.c_longlong),
    )


class Emulator:
    """Unicorn. `placement` says which side of a buffer touches its guard page.

    With "end" the first byte past a buffer is caught as far as alignment allows (all of them where
    its size is a multiple of 16, of 64 for the workspace), with "start" the last byte before it.
    Writes into what lies between a buffer and its guard page are caught after the run.
    """

    def __init__(self, placement: Placement = "end") -> None:
        """Choose the placement of buffers."""
        self.placement: Placement = placement

    def load(self, executable: Executable) -> "EmulatedProgram":
        """Link and load a program; raises UserError unless it is built for arm64."""
        check_arm64(executable, "the emulator")
        return EmulatedProgram(executable, link(executable), self.placement)


class EmulatedProgram(Loaded):
    """A program in the emulator's memory."""

    def __init__(self, executable: Executable, image: Image, placement: Placement) -> None:
        """Map memory, load the image and prepare registers."""
        self._executable = executable
        self._image = image
        cpu = _CPUS.get(executable.target.emulated_cpu or "", arm64.UC_CPU_ARM64_MAX)
        self._engine = engine = unicorn.Uc(uc.UC_ARCH_ARM64, uc.UC_MODE_ARM)
        engine.ctl_set_cpu_model(cpu)
        self._buffers: list[Buffer] = []
        self._load_image()
        self._map_buffers(placement)
        self._access: tuple[int, int, int] | None = None
        engine.hook_add(uc.UC_HOOK_MEM_INVALID, self._invalid)
        # One step per instruction and one past the end; see counter.c.
        self._steps = np.zeros(len(image.code.data) // 4 + 1, np.int64)
        self._record = _Record(steps=self._steps.ctypes.data)
        self._add_counter()
        self._context, self._kept = self._registers()

    def _load_image(self) -> None:
        image = self._image
        for segment in (image.code, *image.data):
            base = segment.address // PAGE * PAGE
            mapped = -(-(segment.address + len(segment.data) - base) // PAGE) * PAGE
            execute = uc.UC_PROT_EXEC if segment is image.code else 0
            self._engine.mem_map(base, mapped, uc.UC_PROT_READ | execute)
            self._engine.mem_write(segment.address, segment.data)
            self._buffers.append(
                Buffer(segment.name, base, segment.address, len(segment.data), mapped)
            )

    def _map_buffers(self, placement: Placement) -> None:
        executable = self._executable
        # The emulated TLB goes by the low bits of the page number: where two buffers share them,
        # every access misses and emulation is several times slower. So each starts, modulo the
        # distance of the regions, where the one before ended.
        pages = len(self._image.code.data) // PAGE + 1

        def add(name: str, region: int, size: int, align: int, access: int) -> Buffer:
            nonlocal pages
            buffer = place(name, region + pages * PAGE, size, align, placement)
            pages += buffer.mapped // PAGE
            self._engine.mem_map(buffer.base, buffer.mapped, access)
            self._buffers.append(buffer)
            return buffer

        both = uc.UC_PROT_READ | uc.UC_PROT_WRITE
        self._input = add("input", 0x5000_0000, executable.input.nbytes, 16, uc.UC_PROT_READ)
        self._output = add("output", 0x6000_0000, executable.output.nbytes, 16, both)
        self._workspace = add("workspace", 0x7000_0000, executable.workspace_bytes, 64, both)
        self._stack = add("stack", 0x8000_0000, STACK_BYTES, 16, both)
        self._engine.mem_map(_RETURN, PAGE, uc.UC_PROT_READ | uc.UC_PROT_EXEC)

    def _add_counter(self) -> None:
        # Unicorn's Python hooks take Python functions only, so the C function goes in by its API.
        code = self._image.code
        handle = ctypes.c_size_t()
        status = uclib.uc_hook_add(
            self._engine._uch,
            ctypes.byref(handle),
            uc.UC_HOOK_BLOCK,
            _counter(),
            ctypes.byref(self._record),
            ctypes.c_uint64(code.address),
            ctypes.c_uint64(code.address + len(code.data) - 1),
        )
        if status != uc.UC_ERR_OK:
            raise unicorn.UcError(status)

    def _registers(self) -> tuple[unicorn.unicorn.UcContext, dict[str, int]]:
        """The processor as every run finds it, and what a run must leave in kept registers."""
        engine = self._engine
        engine.reg_write(arm64.UC_ARM64_REG_CPACR_EL1, 3 << 20)  # floating point and NEON
        kept = {name: 0xA5A5_0000_0000_0000 + reg for name, reg in _KEPT.items()}
        kept["sp"] = self._stack.end
        for name, value in kept.items():
            engine.reg_write(_KEPT[name], value)
        width = self._executable.width
        arguments = [] if width is None else [width]
        arguments += [buffer.start for buffer in (self._input, self._output, self._workspace)]
        for number, argument in enumerate(arguments):
            engine.reg_write(arm64.UC_ARM64_REG_X0 + number, argument)
        engine.reg_write(arm64.UC_ARM64_REG_LR, _RETURN)
        return engine.context_save(), kept

    @property
    def image(self) -> Image:
        """The linked program."""
        return self._image

    def close(self) -> None:
        """Free the emulated machine."""
        del self._engine

    def run(self, inputs: NDArray[np.float32], keep_workspace: bool = False) -> RunResult:
        """See Loaded.run; gives instruction counts, a profile and the stack's depth."""
        spec = self._executable.output
        batch = check_inputs(inputs, self._executable.input)
        outputs = np.empty((len(batch), *spec.shape), np.float32)
        workspaces = np.empty((len(batch), self._workspace.size), np.uint8)
        counts = np.zeros(len(self._steps), np.int64)
        instructions, stack = [], 0
        for index, sample in enumerate(batch):
            self._steps[:] = 0
            self._execute(sample)
            outputs[index] = self._read(self._output, OUTPUT_FILL).view("<f4").reshape(spec.shape)
            workspace = self._read(self._workspace, WORKSPACE_FILL)
            if keep_workspace:
                workspaces[index] = workspace
            executed = np.cumsum(self._steps)
            instructions.append(int(executed.sum()))
            counts += executed
            stack = max(stack, self._stack_depth())
        return RunResult(
            outputs=outputs,
            workspaces=workspaces if keep_workspace else None,
            instructions=tuple(instructions),
            profile=self._profile(counts),
            stack_bytes=stack,
        )

    def trace(self, sample: NDArray[np.float32]) -> NDArray[np.uint32]:
        """Run once for an input of shape input.shape; the basic blocks in the order they ran.

        Returns (n, 2): the first instruction of each, counted from the start of the code, and its
        number of instructions. Raises what run raises.
        """
        batch = check_inputs(sample[None], self._executable.input)
        blocks = np.empty((1 << 18, 2), np.uint32)
        while True:  # twice where there are more blocks than thought: every run is the same
            self._record.ran = 0
            self._record.blocks, self._record.capacity = blocks.ctypes.data, len(blocks)
            try:
                self._execute(batch[0])
            finally:
                self._record.capacity = 0
            if self._record.ran <= len(blocks):
                return blocks[: self._record.ran].copy()
            blocks = np.empty((self._record.ran, 2), np.uint32)

    def _execute(self, sample: NDArray[np.float32]) -> None:
        engine = self._engine
        engine.mem_write(self._input.start, sample.astype("<f4").tobytes())
        for buffer, fill in (
            (self._output, OUTPUT_FILL),
            (self._workspace, WORKSPACE_FILL),
            (self._stack, WORKSPACE_FILL),
        ):
            engine.mem_write(buffer.base, bytes([fill]) * buffer.mapped)
        engine.context_restore(self._context)
        self._access = None
        try:
            engine.emu_start(self._image.entry, _RETURN)
        except unicorn.UcError as error:
            raise self._fault(error) from error
        changed = [
            name for name, value in self._kept.items() if engine.reg_read(_KEPT[name]) != value
        ]
        if changed:
            raise DeviceFault(
                f"{self._executable.entry} returned with {', '.join(changed)} changed; the arm64 "
                "calling convention keeps x19 to x29, sp and d8 to d15: restore them before ret"
            )

    def _invalid(
        self, engine: object, kind: int, address: int, size: int, value: int, user: object
    ) -> bool:
        if self._access is None:  # a wide store is tried in pieces: the first one tells
            self._access = (kind, address, size)
        return False

    def _fault(self, error: Exception) -> DeviceFault:
        pc = self._engine.reg_read(arm64.UC_ARM64_REG_PC)
        where = f"{self._executable.entry} failed at {self._image.name(pc)}{self._instruction(pc)}"
        if self._access is None:
            cpu = self._executable.target.emulated_cpu or "the emulated processor"
            return DeviceFault(f"{where}: {error}, or an instruction that {cpu} does not have")
        kind, address, size = self._access
        if kind not in (*_READS, *_WRITES):
            return DeviceFault(f"{where}: a jump to {address:#x}, where no code is")
        verb = "write" if kind in _WRITES else "read"
        nearest = min(self._buffers, key=lambda buffer: buffer.distance(address))
        return DeviceFault(
            f"{where}: {verb} of {size} bytes at {address:#x}, {nearest.relation(address)}"
        )

    def _instruction(self, pc: int) -> str:
        code = self._image.code
        word = code.data[pc - code.address :][:4] if pc >= code.address else b""
        found = next(Cs(CS_ARCH_ARM64, CS_MODE_ARM).disasm(word, pc), None)
        return f" ({found.mnemonic} {found.op_str})" if found else ""

    def _read(self, buffer: Buffer, fill: int) -> NDArray[np.uint8]:
        """The buffer's bytes; raises DeviceFault when what lies around it was written."""
        memory = np.frombuffer(bytes(self._engine.mem_read(buffer.base, buffer.mapped)), np.uint8)
        touched = memory != fill
        first = buffer.start - buffer.base
        touched[first : first + buffer.size] = False
        if touched.any():
            address = buffer.base + int(touched.argmax())
            raise DeviceFault(
                f"{self._executable.entry} wrote {int(touched.sum())} bytes outside its buffers, "
                f"the first at {address:#x}, {buffer.relation(address)}"
            )
        return memory[first : first + buffer.size]

    def _stack_depth(self) -> int:
        memory = np.frombuffer(
            bytes(self._engine.mem_read(self._stack.base, STACK_BYTES)), np.uint8
        )
        touched = memory != WORKSPACE_FILL
        return STACK_BYTES - int(touched.argmax()) if touched.any() else 0

    def _profile(self, counts: NDArray[np.int64]) -> dict[str, int]:
        starts = [(address - self._image.code.address) // 4 for address, _ in self._image.symbols]
        sums = np.add.reduceat(counts, starts)
        profile: Counter[str] = Counter()
        for (_, name), executed in zip(self._image.symbols, sums.tolist(), strict=True):
            profile[name] += executed
        return {name: executed for name, executed in profile.items() if executed}
