"""What the command line prints: for people, or with --json for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from elftools.elf.elffile import ELFFile
from rich.console import Console

if TYPE_CHECKING:  # what they import takes seconds, and not every verb needs it
    from bicompile.artifact import Artifact
    from bicompile.cost.report import Row
    from bicompile.pipeline import Compiled
    from bicompile.recognise import Recognition
    from bicompile.report import Layer
    from bicompile.targets import Target
    from bicompile.verify import Verification

_console = Console(stderr=True)


def working(what: str) -> AbstractContextManager[Any]:
    """A sign of life on a terminal while something takes seconds."""
    return _console.status(what)


def compiled(result: "Compiled", *, as_json: bool) -> None:
    """The layers, the size of the object, and a warning where binary weights stay float."""
    artifact = result.artifact
    code, constants = _sizes(artifact.executable.object)
    if as_json:
        _json(
            artifact=str(artifact.folder),
            target=artifact.target.name,
            code_bytes=code,
            constant_bytes=constants,
            workspace_bytes=artifact.workspace_bytes,
            layers=[dataclasses.asdict(layer) for layer in result.layers],
        )
        return
    binary = [layer for layer in result.layers if layer.binary]
    print(f"{artifact.source} for {artifact.target.name}: {artifact.folder}")
    print(f"  {len(binary)} of {len(result.layers)} layers became popcounts")
    for (reason, looks_binary), names in _by_reason(result.layers).items():
        sign = "warning: " if looks_binary else ""
        stay = f"{names[0]} stays" if len(names) == 1 else f"{len(names)} layers stay"
        which = "" if len(names) == 1 else f" ({names[0]} to {names[-1]})"
        print(f"  {sign}{stay} float: {reason}{which}")
    if not binary:
        print("  warning: no layer is binary; this object has no advantage over a float one")
    print(
        f"  object: {code + constants} bytes ({code} code, {constants} constants); "
        f"workspace: {artifact.workspace_bytes} bytes"
    )


def _by_reason(layers: "Sequence[Layer]") -> dict[tuple[str, bool], list[str]]:
    """The names of the float layers by why they are; layers of one kind tell one line."""
    names: dict[tuple[str, bool], list[str]] = {}
    for layer in layers:
        if not layer.binary:
            names.setdefault((layer.reason, layer.looks_binary), []).append(layer.name)
    return names


def recognitions(found: "Sequence[Recognition]", device: str, *, as_json: bool) -> None:
    """A line a clip, and the accuracy where the clips' folders say what was spoken."""
    known = [r for r in found if r.spoken is not None]
    right = sum(r.word == r.spoken for r in known)
    if as_json:
        rows = [{**dataclasses.asdict(r), "clip": str(r.clip)} for r in found]
        _json(device=device, clips=rows, known=len(known), right=right)
        return
    width = max(len(_short(r.clip)) for r in found)
    for r in found:
        counted = "" if r.instructions is None else f"  {r.instructions} instructions"
        notes = f"  ({'; '.join(r.notes)})" if r.notes else ""
        print(
            f"{_short(r.clip):{width}}  {r.word:8} {r.probability:6.1%}   "
            f"then {r.runner_up:8} {r.runner_up_probability:6.1%}   on {device}{counted}{notes}"
        )
    if known:
        print(f"{right} of {len(known)} right ({right / len(known):.1%})")


def verification(
    result: "Verification",
    artifact: "Artifact",
    files: Sequence[Path],
    device: str,
    reference: str,
    *,
    as_json: bool,
) -> None:
    """Bits, accumulators, answers; and every clip whose answer differs, with its margin."""
    labels = artifact.labels or tuple(map(str, range(artifact.output.nbytes // 4)))
    rows = [
        {
            "clip": str(files[d.clip]),
            "expected": labels[d.expected],
            "found": labels[d.found],
            "margin": d.margin,
        }
        for d in result.disagreements
    ]
    if as_json:
        fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
        _json(
            **{**fields, "disagreements": rows},
            agreement=result.agreement,
            passed=result.passed,
            device=device,
            reference=reference,
        )
        return
    print(f"{artifact.folder} on {device}, {reference} in onnxruntime, {result.clips} clips")
    print(f"  packed bits:   {result.wrong_bits} of {result.bits} bytes differ")
    print(f"  accumulators:  {result.wrong_accumulators} of {result.accumulators} differ")
    print(f"  answers:       {result.agreement:.2%} agree")
    print(f"  logits:        median difference {result.median_difference:.3g}")
    if not result.same_outputs:
        print("  the object gives other outputs when its buffers do not share memory")
    for row in rows:
        print(
            f"  {row['clip']}: {row['found']}, the model says {row['expected']} "
            f"by a margin of {row['margin']:.3g}"
        )
    print("  passed" if result.passed else "  FAILED")


def costs(rows: "Sequence[Row]", sources: "Mapping[str, str]", *, as_json: bool) -> None:
    """A line a kernel, the dearest first, and the sum; every model is named."""
    if as_json:
        _json(kernels=[dataclasses.asdict(row) for row in rows], models=dict(sources))
        return
    total = {core: sum(row.modelled_cycles[core] for row in rows) for core in sources}
    print(f"{'instructions':>12}  {'vector':>8}  " + "  ".join(f"{core:>12}" for core in sources))
    for row in rows:
        cycles = "  ".join(f"{row.modelled_cycles[core]:12}" for core in sources)
        print(f"{row.instructions:12}  {row.vector_instructions:8}  {cycles}  {row.symbol}")
    sums = "  ".join(f"{cycles:12}" for cycles in total.values())
    executed = sum(row.instructions for row in rows)
    vector = sum(row.vector_instructions for row in rows)
    print(f"{executed:12}  {vector:8}  {sums}  in all")
    print("instructions are counted by the emulator; cycles are " + ", ".join(sources.values()))


def targets(known: "Sequence[Target]", *, as_json: bool) -> None:
    """A line a target."""
    if as_json:
        _json(targets=[dataclasses.asdict(target) for target in known])
        return
    for target in known:
        print(f"{target.name:12} {target.about}")


def _sizes(obj: Path) -> tuple[int, int]:
    """Bytes of code and of constants."""
    with obj.open("rb") as file:
        elf = ELFFile(file)
        names = (".text", ".rodata")
        code, constants = (elf.get_section_by_name(name)["sh_size"] for name in names)
        return code, constants


def _short(clip: Path) -> str:
    return f"{clip.parent.name}/{clip.name}".lstrip("/")


def _json(**fields: Any) -> None:
    print(json.dumps(fields, indent=2))
