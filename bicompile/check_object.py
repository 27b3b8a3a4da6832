"""The last proof by running: an object gives what the graph does that it was built from."""

import numpy as np
import onnx

from bicompile.artifact import Executable
from bicompile.check import TOLERANCE, check_inputs, is_noise, observe
from bicompile.devices import open_device
from bicompile.devices.host import runs_here
from bicompile.errors import UserError

_INPUTS = 3


def check_object(executable: Executable, lowered: onnx.ModelProto) -> None:
    """Run an object where its target is emulated, or on this machine, and compare its outputs.

    Passes are checked on their graphs; this checks what comes after them: how standard ops are
    lowered, the schedules, the memory plan. An input on which some activation lies on its threshold
    proves nothing and is left out. Raises UserError where the object gives something else.
    """
    is_emulated = executable.target.emulated_cpu is not None
    if not is_emulated and not runs_here(executable.target):
        return
    inputs = check_inputs(lowered)[:_INPUTS]
    expected = observe(lowered, inputs, "the lowered graph")
    with open_device("emulator" if is_emulated else "host").load(executable) as loaded:
        outputs = loaded.run(np.stack(inputs)).outputs
    for index, found in enumerate(outputs):
        difference = expected.difference(index, found)
        if difference <= TOLERANCE or expected.is_near_threshold(index):
            continue
        if not is_noise(expected, index, found):
            raise UserError(
                f"the object for {executable.target.name} gives something else than its model: "
                f"output {lowered.graph.output[0].name} differs by {difference:.3g} of its largest "
                f"value on check input {index}, accepted {TOLERANCE:g}; nothing was written, "
                "please report the model"
            )
