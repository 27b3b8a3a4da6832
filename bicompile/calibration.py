"""How often a network answers as before, on a calibration set."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from bicompile.audio import read_wav
from bicompile.check import session
from bicompile.errors import UserError
from bicompile.features import log_mel
from bicompile.recognise import find_clips
from bicompile.zoo import clip_paths

DEFAULT = "zoo:clips"


@dataclass(frozen=True)
class Agreement:
    """Two networks on the same inputs.

    Attributes:
        inputs: how many there were.
        agreeing: of how many the largest output is the same one.
        median_difference: median over inputs of the largest difference of an output.
    """

    inputs: int
    agreeing: int
    median_difference: float


def read_calibration(source: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """The inputs in a .npy file, (n, *shape), or the log-mels of sound files.

    `source` is a file, a folder of sound files or zoo:clips. Raises UserError for what cannot be
    read and for inputs of another shape.
    """
    path = Path(source)
    if path.suffix == ".npy":
        inputs, what = _array(path), "inputs of shape {}"
    else:
        clips = find_clips(clip_paths([source]))
        inputs = np.stack([log_mel(read_wav(clip).samples) for clip in clips])
        what = "the log-mel {} of each clip"
    if not inputs.size or inputs.shape[1:] != shape:
        raise UserError(
            f"the calibration set {source} has {what.format(inputs.shape[1:])}, and the model "
            f"takes {shape}; give --calibration a .npy file of shape (n, "
            f"{', '.join(map(str, shape))})"
        )
    return inputs.astype(np.float32)


def _array(path: Path) -> NDArray[np.generic]:
    try:
        inputs = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UserError(f"{path} is no array that numpy.save wrote; write it again") from error
    if not isinstance(inputs, np.ndarray) or inputs.dtype.kind not in "fiu":
        raise UserError(f"{path} holds no numbers; give an array of float32")
    return inputs


def agreement(
    before: onnx.ModelProto, after: onnx.ModelProto, inputs: NDArray[np.float32]
) -> Agreement:
    """Run both in onnxruntime on inputs (n, *shape)."""
    first, second = (
        np.stack([session_.run(None, {name: x})[0].ravel() for x in inputs])
        for session_, name in ((session(m), m.graph.input[0].name) for m in (before, after))
    )
    return Agreement(
        len(inputs),
        int((first.argmax(axis=1) == second.argmax(axis=1)).sum()),
        float(np.median(np.abs(first - second).max(axis=1))),
    )
