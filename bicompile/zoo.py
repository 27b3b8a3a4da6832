"""The models that ship with bicompile, and what a model argument may be."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from bicompile.artifact import Artifact
from bicompile.errors import UserError

PREFIX = "zoo:"
_FOLDER = Path(str(files("bicompile"))) / "zoo"


def clip_paths(arguments: Sequence[str]) -> list[Path]:
    """Paths as given; `zoo:clips` is the folder of samples (`LABEL/NAME.wav`, held-out voices)."""
    return [_FOLDER / "clips" if a == f"{PREFIX}clips" else Path(a) for a in arguments]


def traced_model(artifact: Artifact) -> Path:
    """The ONNX file to compare an artifact with: the zoo model it came from, else its own graph.

    Its own graph too where options made it another network than that of the zoo.
    """
    import onnx  # what runs clips does without it

    from bicompile.smaller import is_smaller

    name, _, width = artifact.model.partition(" width ")
    if name.startswith(PREFIX) and not is_smaller(onnx.load(artifact.lowered)):
        return _member(name, f"-width{width}.onnx")
    return artifact.lowered


def checkpoint(source: str) -> Path:
    """The checkpoint that `source` names: a path, or `zoo:NAME`; raises UserError."""
    return _member(source, ".safetensors") if source.startswith(PREFIX) else Path(source)


def name_of(source: str) -> str:
    """What a model argument is called by, its width left open."""
    return source if source.startswith(PREFIX) else Path(source).name


@contextmanager
def onnx_file(source: str, width: int | None) -> Iterator[tuple[Path, str]]:
    """The ONNX file of a model argument, and the name to call it by.

    `source` is an ONNX file, a checkpoint (traced here at `width`, which needs torch) or
    `zoo:NAME` (already traced). `width` is 0 where it matters and is not given. Raises UserError.
    """
    if source.startswith(PREFIX):
        chosen = width or 0
        yield _member(source, f"-width{chosen}.onnx"), f"{name_of(source)} width {chosen}"
    elif source.endswith(".safetensors"):
        from bicompile.trace import trace  # needs torch, which compiling an ONNX file does not

        chosen = width or 0
        with tempfile.TemporaryDirectory() as folder:
            traced = Path(folder) / "traced.onnx"
            trace(Path(source), traced, width=chosen)
            yield traced, f"{name_of(source)} width {chosen}"
    elif width is not None:
        raise UserError(
            f"{source} has one width; choose a width of a checkpoint or a zoo model only"
        )
    else:
        yield Path(source), name_of(source)


def _member(source: str, suffix: str) -> Path:
    name = source.removeprefix(PREFIX)
    path = _FOLDER / f"{name}{suffix}"
    if not path.is_file():
        known = sorted(p.stem for p in _FOLDER.glob("*.safetensors"))
        if name not in known:
            raise UserError(f"the zoo has no {name!r}; it has {', '.join(known) or 'nothing'}")
        widths = sorted(p.stem.rpartition("width")[2] for p in _FOLDER.glob(f"{name}-width*.onnx"))
        raise UserError(f"{source} has no such width; it has {', '.join(widths)}")
    return path
