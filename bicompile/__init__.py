"""A compiler for binary neural networks on arm64.

import bicompile

artifact = bicompile.compile("model.onnx", target="cortex-a53", out="build/model")
outputs = artifact.run(x)
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bicompile.artifact import Artifact
    from bicompile.passes.sign_of_zero import SignOfZero
    from bicompile.smaller import ClassifierBits, Constants

__all__ = ["compile", "read"]


def compile(  # noqa: A001 - the word a user looks for
    model: str | Path,
    *,
    target: str,
    out: str | Path | None = None,
    widths: Sequence[int] | None = None,
    sign_of_zero: "SignOfZero" = "strict",
    constants: "Constants" = "float32",
    classifier: "ClassifierBits" = "float32",
    calibration: str | Path | None = None,
    check: bool = True,
    records: str | Path | None = None,
) -> "Artifact":
    """Compile an ONNX file, a checkpoint or `zoo:NAME` for a target; returns the artifact.

    The artifact is written to the folder `out`, or to a temporary one that ends with the process.
    `widths` chooses those of a checkpoint or zoo model; one object has them all, and
    `artifact.at(width)` is the artifact as it runs at one. `sign_of_zero` is what a Sign gives at
    0: `strict` as in ONNX, so that layers behind it stay float, `plus` +1, `minus` −1. `constants`
    and `classifier` make the object smaller and the network another one; report.json tells how
    often it answers as before on `calibration`, sound files or a .npy of inputs. `records` is a
    folder of `bicompile tune`, or `zoo`. Raises bicompile.errors.UserError.
    """
    from bicompile.files import folder_of_this_process
    from bicompile.pipeline import compile_model
    from bicompile.targets import find_target

    folder = folder_of_this_process() / "artifact" if out is None else Path(out)
    compiled = compile_model(
        str(model),
        find_target(target),
        folder,
        widths=widths,
        sign_of_zero=sign_of_zero,
        constants=constants,
        classifier=classifier,
        calibration=None if calibration is None else str(calibration),
        check=check,
        records=None if records is None else str(records),
    )
    return compiled.artifact


def read(folder: str | Path) -> "Artifact":
    """Read an artifact that was compiled before; raises bicompile.errors.UserError."""
    from bicompile.artifact import read_artifact

    return read_artifact(Path(folder))
