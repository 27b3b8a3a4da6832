"""torch → ONNX: one width of a checkpoint becomes a static graph, checked against torch."""

import ast
import json
import logging
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from bicompile.errors import UserError
from bicompile.files import atomic_file
from bicompile.model.checkpoint import load_checkpoint
from bicompile.ops import STANDARD_OPSET

_CHECKED_INPUTS = 16
_LOGIT_TOLERANCE = 1e-3


def trace(checkpoint: Path, out: Path, *, width: int) -> None:
    """Write the network of `checkpoint` at one `width` as an ONNX file.

    The graph takes (1, 1, mels, frames) float32 and gives (1, classes) float32. Binary weights are
    baked to ±1 with a scale per output channel behind the layer. Nodes are named after the modules
    they come from; labels and origin stand in the model's metadata. Before the file takes its name
    it is run in onnxruntime beside torch. Raises UserError for an unusable checkpoint, a width the
    network does not have, or a graph that disagrees with torch.
    """
    network, _ = load_checkpoint(checkpoint)
    widths = network.config.widths
    if width not in widths:
        raise UserError(
            f"{checkpoint} has no width {width}: its widths are {', '.join(map(str, widths))}"
        )
    frozen = network.freeze().at_width(width)
    example = torch.zeros(1, 1, frozen.config.mels, frozen.config.frames)
    model = _export(frozen, example)
    _name_after_modules(model)
    onnx.helper.set_model_props(
        model,
        {
            "bicompile.labels": json.dumps(frozen.config.labels),
            "bicompile.network": f"{checkpoint.stem}, width {width}",
        },
    )
    _compare(frozen, model, checkpoint)
    with atomic_file(out) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))


def _export(network: torch.nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            opset_version=STANDARD_OPSET,
            input_names=["log_mel"],
            output_names=["logits"],
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")
    return program.model_proto


def _name_after_modules(model: onnx.ModelProto) -> None:
    """Name nodes `/module/path/Op` and drop the exporter's own notes (paths, stack traces)."""
    seen: dict[str, int] = {}
    for node in model.graph.node:
        scopes = next((p.value for p in node.metadata_props if p.key.endswith("name_scopes")), "[]")
        modules = [scope for scope in ast.literal_eval(scopes)[:-1] if scope]
        module = modules[-1].replace(".", "/") if modules else ""
        name = f"/{module}/{node.op_type}".replace("//", "/")
        seen[name] = seen.get(name, 0) + 1
        node.name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"
        del node.metadata_props[:]
    for value in [*model.graph.value_info, *model.graph.input, *model.graph.output]:
        del value.metadata_props[:]
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.metadata_props[:]


def _compare(network: torch.nn.Module, model: onnx.ModelProto, checkpoint: Path) -> None:
    """Run both on the same inputs; the medians tell, since one sum at a threshold may flip a sign.

    Inputs are spread like log-mels: −100 to 30 dB.
    """
    session = onnxruntime.InferenceSession(model.SerializeToString())
    generator = np.random.default_rng(0)
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    differences = []
    for _ in range(_CHECKED_INPUTS):
        x = generator.uniform(-100, 30, shape).astype(np.float32)
        with torch.no_grad():
            expected = network(torch.from_numpy(x)).numpy()
        (found,) = session.run(None, {model.graph.input[0].name: x})
        differences.append(np.abs(found - expected).max())
    if not np.median(differences) <= _LOGIT_TOLERANCE:
        raise UserError(
            f"the traced graph of {checkpoint} disagrees with torch: median logit difference "
            f"{np.median(differences):.3g}, accepted {_LOGIT_TOLERANCE:g}; nothing was written"
        )
