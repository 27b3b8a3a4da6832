"""What can be evaluated: checkpoints, ONNX files and artifacts, all as one kind of thing."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from bicompile.artifact import Artifact, read_artifact
from bicompile.check import session
from bicompile.devices import open_device
from bicompile.errors import UserError
from bicompile.features import FRAMES, MELS
from bicompile.load import load_model
from bicompile.zoo import PREFIX, checkpoint

SHAPE = (1, 1, MELS, FRAMES)
"""Of the features of a clip, float32."""

Scores = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""From features (n, *SHAPE) to a score for each label, (n, labels)."""


@dataclass(frozen=True)
class Classifier:
    """One network at one width, ready to hear clips."""

    thing: str
    """The argument it was given by."""
    width: int | None
    """Of a checkpoint, or of an artifact that has several."""
    runs_in: str
    """What computes it: `torch`, `onnxruntime` or the name of a device."""
    labels: tuple[str, ...]
    scores: Scores
    history: Sequence[Mapping[str, Any]] = ()
    """Metrics of every epoch of its training, where they are known."""

    @property
    def name(self) -> str:
        """What to call it by."""
        return self.thing if self.width is None else f"{self.thing} width {self.width}"


def open_classifiers(
    thing: str, device: str, stack: ExitStack, width: int | None = None
) -> list[Classifier]:
    """Open a checkpoint (every width it has), `zoo:NAME`, an ONNX file or an artifact folder.

    An artifact is loaded on `device` at `width`, or at each that it has, and freed when `stack`
    closes. Raises UserError for anything
    else, and for a model without labels or that does not take the features of a clip.
    """
    path = checkpoint(thing)
    if thing.startswith(PREFIX) or path.suffix == ".safetensors":
        return _of_checkpoint(thing, path)
    if path.is_dir():
        artifact = read_artifact(path)
        chosen = [width] if width is not None else artifact.widths or [None]
        return [_of_artifact(artifact.at(each), device, stack) for each in chosen]
    if path.suffix == ".onnx":
        return [_of_onnx(path)]
    found = "is neither of them" if path.exists() else "does not exist"
    raise UserError(
        f"{thing} {found}: give a checkpoint (.safetensors), an ONNX file (.onnx) or the folder "
        "of an artifact"
    )


def _of_checkpoint(thing: str, path: Path) -> list[Classifier]:
    import torch  # what is not a checkpoint does without it

    from bicompile.model.checkpoint import load_checkpoint

    network, record = load_checkpoint(path)
    config = network.config
    _check(thing, "features", (1, 1, config.mels, config.frames), config.labels, len(config.labels))

    def at(width: int) -> Scores:
        @torch.no_grad()
        def scores(features: NDArray[np.float32]) -> NDArray[np.float32]:
            logits: NDArray[np.float32] = network(torch.from_numpy(features[:, 0]), width).numpy()
            return logits

        return scores

    return [
        Classifier(thing, w, "torch", config.labels, at(w), record.get("history", ()))
        for w in config.widths
    ]


def _of_onnx(path: Path) -> Classifier:
    model = load_model(path)
    entry, result = model.graph.input[0], model.graph.output[0]
    labels = tuple(json.loads(_metadata(model).get("bicompile.labels", "[]")))
    _check(str(path), entry.name, _shape(entry), labels, int(np.prod(_shape(result))))
    loaded = session(model, str(path))

    def scores(features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.stack([loaded.run(None, {entry.name: x})[0].ravel() for x in features])

    return Classifier(str(path), None, "onnxruntime", labels, scores)


def _of_artifact(artifact: Artifact, device: str, stack: ExitStack) -> Classifier:
    outputs = int(np.prod(artifact.output.shape))
    _check(
        str(artifact.folder), artifact.input.name, artifact.input.shape, artifact.labels, outputs
    )
    loaded = stack.enter_context(open_device(device).load(artifact.executable))

    def scores(features: NDArray[np.float32]) -> NDArray[np.float32]:
        return loaded.run(features).outputs.reshape(len(features), -1)

    return Classifier(str(artifact.folder), artifact.width, device, artifact.labels, scores)


def _check(
    thing: str, name: str, shape: tuple[int, ...], labels: tuple[str, ...], outputs: int
) -> None:
    if shape != SHAPE:
        raise UserError(
            f"{thing} takes {name} of shape {shape}, not the log-mel {SHAPE} of a clip; give a "
            "network that hears clips"
        )
    if len(labels) != outputs:
        raise UserError(
            f"{thing} has {outputs} outputs and {len(labels)} labels; give a network that names "
            "each output, as those that `bicompile train` and `bicompile trace` write do"
        )


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _metadata(model: onnx.ModelProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in model.metadata_props}
