"""The folder that is shipped: one object with one C entry, and what a person needs beside it.

`manifest.json` says what the object is and holds the SHA-256 of every other file, so that reading
an artifact notices when one of them was changed, lost or cut short.
"""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bicompile.errors import UserError
from bicompile.targets import Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT = "bicompile-artifact/2"
MANIFEST = "manifest.json"
OBJECT = "model.o"
FILES = (OBJECT, "libmodel.a", "model.h", "lowered.onnx", "report.json")
"""Of an artifact with one width; with several, the last two are there for each (see of_width)."""


def of_width(name: str, width: int | None) -> str:
    """The file of one width: `NAME-widthN.SUFFIX`; None is the width of an artifact with one."""
    stem, suffix = name.rsplit(".", 1)
    return name if width is None else f"{stem}-width{width}.{suffix}"


def _required(widths: Sequence[int]) -> list[str]:
    return [*FILES[:3], *(of_width(name, w) for name in FILES[3:] for w in widths or (None,))]


@dataclass(frozen=True)
class TensorSpec:
    """What the entry reads or writes: a name, a static shape (elements) and a numpy dtype name."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * 4

    def __post_init__(self) -> None:
        """Raise ValueError for a dtype that the entry cannot take."""
        if self.dtype != "float32":
            raise ValueError(f"{self.name} is {self.dtype}; the C entry takes float32 only")


@dataclass(frozen=True)
class Executable:
    """What a device loads: a freestanding object and how its entry is called.

    The entry is `void entry(const float *input, float *output, void *workspace)`; input and output
    are 16-byte aligned, the workspace 64-byte aligned and `workspace_bytes` long. With a `width`,
    the entry takes that before all, as an int.
    """

    object: Path
    entry: str
    input: TensorSpec
    output: TensorSpec
    workspace_bytes: int
    target: Target
    width: int | None = None


@dataclass(frozen=True)
class Artifact:
    """A compiled model on disk, as its manifest tells it.

    Attributes:
        folder: where it lies.
        target: the processor it was built for.
        entry: name of the C function.
        input: the tensor the entry reads.
        output: the tensor the entry writes.
        workspace_bytes: what the caller must provide, 64-byte aligned.
        labels: the word of every output element, or nothing.
        widths: those that the entry takes; none where the object holds one and takes none.
        source: name of the model it was compiled from.
        versions: version by package, of what took part in compiling.
        schedules: what is decided of every kernel that can be tuned, by its name.
        sha256: hex digest by name of every other file in the folder.
        width: what it runs at, one of `widths`; None where there are none. See at.
    """

    folder: Path
    target: Target
    entry: str
    input: TensorSpec
    output: TensorSpec
    workspace_bytes: int
    labels: tuple[str, ...]
    widths: tuple[int, ...]
    source: str
    versions: Mapping[str, str]
    sha256: Mapping[str, str]
    width: int | None
    schedules: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def at(self, width: int | None) -> "Artifact":
        """The artifact as it runs at a width; None is the width it has.

        Raises UserError for a width that is not in it.
        """
        if width is None:
            return self
        if width not in self.widths:
            it_has = ", ".join(map(str, self.widths))
            there = f"no width {width}; it has {it_has}" if it_has else "one width; give none"
            raise UserError(f"{self.folder} has {there}")
        return dataclasses.replace(self, width=width)

    @property
    def model(self) -> str:
        """Name of the model and its width."""
        return self.source if self.width is None else f"{self.source} width {self.width}"

    @property
    def lowered(self) -> Path:
        """The binary graph of its width."""
        return self.folder / of_width("lowered.onnx", self.width)

    @property
    def report(self) -> Path:
        """What became of each layer at its width."""
        return self.folder / of_width("report.json", self.width)

    @property
    def executable(self) -> Executable:
        """What a device loads."""
        return Executable(
            self.folder / OBJECT,
            self.entry,
            self.input,
            self.output,
            self.workspace_bytes,
            self.target,
            self.width,
        )

    def run(self, x: "NDArray[np.float32]", device: str = "emulator") -> "NDArray[np.float32]":
        """Run once on a device: float32 of input.shape → float32 of output.shape.

        Raises UserError for another shape, dtype or an unknown or unfit device.
        """
        from bicompile.devices import open_device  # devices know artifacts, not the other way

        with open_device(device).load(self.executable) as loaded:
            outputs: NDArray[np.float32] = loaded.run(x[None]).outputs[0]
            return outputs


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_artifact(
    folder: Path,
    *,
    target: Target,
    entry: str,
    input: TensorSpec,  # noqa: A002 - the manifest's word
    output: TensorSpec,
    workspace_bytes: int,
    labels: Sequence[str],
    source: str,
    versions: Mapping[str, str],
    widths: Sequence[int] = (),
    schedules: Mapping[str, Mapping[str, Any]] | None = None,
) -> Artifact:
    """Complete a folder that already holds FILES: hash every file in it and write the manifest.

    Nothing that differs between two identical compiles (no date, no path) goes in.
    Raises FileNotFoundError when one of FILES (of every width) is missing.
    """
    present = {path.name for path in folder.iterdir() if path.name != MANIFEST}
    digests = {name: _sha256(folder / name) for name in sorted(present.union(_required(widths)))}
    artifact = Artifact(
        folder=folder,
        target=target,
        entry=entry,
        input=input,
        output=output,
        workspace_bytes=workspace_bytes,
        labels=tuple(labels),
        widths=tuple(widths),
        source=source,
        versions=dict(versions),
        sha256=digests,
        width=widths[0] if widths else None,
        schedules=dict(schedules or {}),
    )
    fields = dataclasses.asdict(artifact)
    del fields["folder"], fields["width"]
    text = json.dumps({"format": FORMAT, **fields}, indent=2, sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n")
    return artifact


def read_artifact(folder: Path) -> Artifact:
    """Read an artifact and check that every file is the one that was built.

    Raises UserError when the folder is missing or is no artifact, when the manifest is damaged or
    of another format version, and when a file is missing or was changed.
    """
    path = folder / MANIFEST
    if not folder.exists():
        raise UserError(
            f"{folder} does not exist: give the folder that `bicompile compile` wrote with -o"
        )
    if not path.is_file():
        raise UserError(
            f"{folder} is not an artifact (no {MANIFEST} in it): "
            "give the folder that `bicompile compile` wrote with -o"
        )
    try:
        fields = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _damaged(path, "it is not valid JSON") from error
    if not isinstance(fields, dict) or "format" not in fields:
        raise _damaged(path, "it names no format")
    if fields["format"] != FORMAT:
        raise UserError(
            f"{path} has the format {fields['format']!r}, this version reads {FORMAT!r}: "
            "compile the model again"
        )
    try:
        artifact = _parse(folder, fields)
    except KeyError as error:
        raise _damaged(path, f"it lacks {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        raise _damaged(path, "a value in it has the wrong type") from error
    for name, digest in artifact.sha256.items():
        _check_file(folder, name, digest)
    return artifact


def _damaged(path: Path, why: str) -> UserError:
    return UserError(f"{path} is damaged ({why}): compile the model again")


def _parse(folder: Path, fields: dict[str, Any]) -> Artifact:
    target = fields["target"]
    digests = {str(name): str(digest) for name, digest in fields["sha256"].items()}
    widths = tuple(map(int, fields["widths"]))
    for name in _required(widths):
        digests[name]  # a KeyError tells which one the manifest lacks
    if any(Path(name).name != name for name in digests):
        raise ValueError("a file outside the folder")
    return Artifact(
        folder=folder,
        target=Target(**{**target, "features": tuple(target["features"])}),
        entry=str(fields["entry"]),
        input=_tensor(fields["input"]),
        output=_tensor(fields["output"]),
        workspace_bytes=int(fields["workspace_bytes"]),
        labels=tuple(map(str, fields["labels"])),
        widths=widths,
        source=str(fields["source"]),
        versions={str(name): str(version) for name, version in fields["versions"].items()},
        sha256=digests,
        width=widths[0] if widths else None,
        schedules={str(name): dict(of) for name, of in fields.get("schedules", {}).items()},
    )


def _tensor(fields: dict[str, Any]) -> TensorSpec:
    return TensorSpec(str(fields["name"]), tuple(map(int, fields["shape"])), str(fields["dtype"]))


def _check_file(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    try:
        found = _sha256(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing from the artifact: compile the model again") from error
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}): check it and try again"
        ) from error
    if found != digest:
        raise UserError(f"{path} was changed after it was built; compile it again")
