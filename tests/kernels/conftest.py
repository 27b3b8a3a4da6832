from dataclasses import dataclass

import numpy as np
import pytest

from bicompile.artifact import Executable
from bicompile.devices.emulator import Emulator
from bicompile.hand_kernel import HandKernel, build_hand_kernel
from bicompile.targets import find_target


@dataclass
class Runner:
    """Runs the hand kernel on the emulator; what comes last touches the input's guard page."""

    kernel: HandKernel

    def call(
        self, a: np.ndarray, w: np.ndarray, k: int | None = None, first: str = "w"
    ) -> tuple[Executable, np.ndarray]:
        return self.kernel.call(a, w, k, first)

    def run(self, a: np.ndarray, w: np.ndarray, k: int | None = None, **layout: str) -> np.ndarray:
        """Counts (m, n) as int32, or float32 products where k is given."""
        executable, memory = self.call(a, w, k, **layout)
        with Emulator().load(executable) as loaded:
            output = loaded.run(memory[None]).outputs[0]
        return output if k is not None else output.view(np.int32)


@pytest.fixture(scope="session")
def hand_kernel(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    folder = tmp_path_factory.mktemp("fbck")
    return Runner(build_hand_kernel(folder, find_target("cortex-a53")))
