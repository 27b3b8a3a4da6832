"""The meters by the name of their device, and the one that models cycles."""

from bicompile.artifact import Executable
from bicompile.cost.report import MODELS, model_source
from bicompile.devices import boards
from bicompile.driver import ENTRY
from bicompile.errors import UserError
from bicompile.targets import Target
from bicompile.tuning.bench import Bench
from bicompile.tuning.checked import checked_trace
from bicompile.tuning.host_meter import HostMeter
from bicompile.tuning.meter import Meter
from bicompile.tuning.rpc_meter import RpcMeter

_MODEL = {"cortex-a72": "cortex-a72", "cortex-a76": "neoverse-n1", "neoverse-n1": "neoverse-n1"}
"""The core that is modelled for a target; LLVM's own cortex-a76 is that of another core."""


class EmulatorMeter:
    """Modelled cycles of one run on the emulator, its buffers between guard pages."""

    unit = "modelled cycles"
    workers = 1
    timeout = None

    def __init__(self, target: Target) -> None:
        """Choose the model of the target's core; raises UserError where its tool is missing."""
        core = _MODEL.get(target.name, "cortex-a53")
        self.source = model_source(core).removeprefix("modelled by ")
        self._model = MODELS[core]

    def measure(self, bench: Bench, executable: Executable) -> float:
        """See Meter; raises DeviceFault where the program touches what is not its own."""
        trace = checked_trace(bench, executable)
        cycles = trace.by_symbol(self._model(trace))
        return float(sum(n for symbol, n in cycles.items() if symbol != ENTRY))


def open_meter(device: str, target: Target) -> Meter:
    """The meter of a device: `emulator`, `host` or `rpc://HOST:PORT/KEY`.

    Raises UserError for another one, for one that cannot run the target's programs, and for a
    tracker that cannot be reached or has no board with that key.
    """
    if device == "emulator":
        if target.arch != "aarch64":
            raise UserError(
                f"the emulator runs arm64, {target.name} is {target.arch}: give --device host"
            )
        return EmulatorMeter(target)
    if device == "host":
        return HostMeter(target)
    if device.startswith(boards.PREFIX):
        return RpcMeter(boards.Boards(device))
    raise UserError(f"unknown device {device!r}: give emulator, host or rpc://HOST:PORT/KEY")
