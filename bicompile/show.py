"""What the command line prints: for people, or with --json for programs."""

import dataclasses
import json
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

if TYPE_CHECKING:  # what they import takes seconds, and not every verb needs it
    from bicompile.artifact import Artifact
    from bicompile.evaluate import Evaluation
    from bicompile.explain import Explained, Explanation
    from bicompile.footprint import Footprint
    from bicompile.pipeline import Compiled
    from bicompile.recognise import Recognition
    from bicompile.targets import Target
    from bicompile.training.scores import Difference
    from bicompile.tuning.run import Result
    from bicompile.verify import Verification

_console = Console(stderr=True)


def working(what: str) -> AbstractContextManager[Any]:
    """A sign of life on a terminal while something takes seconds."""
    return _console.status(what)


def compiled(result: "Compiled", *, as_json: bool) -> None:
    """The layers, the size of the object, and a warning where binary weights stay float."""
    artifact, explanations = result.artifact, result.explanations
    if as_json:
        _json(
            artifact=str(artifact.folder),
            target=artifact.target.name,
            workspace_bytes=artifact.workspace_bytes,
            records_left_out=result.left_out,
            **result.footprint.flash_to_json(),
            **_each(
                artifact.widths,
                [
                    {
                        **said.to_json(),
                        "memory": dataclasses.asdict(memory),
                        "agreement": found and dataclasses.asdict(found),
                    }
                    for said, memory, found in zip(
                        explanations, result.footprint.memory, result.agreements, strict=True
                    )
                ],
            ),
        )
        return
    several = f" widths {', '.join(map(str, artifact.widths))}" if artifact.widths else ""
    print(f"{artifact.source}{several} for {artifact.target.name}: {artifact.folder}")
    for explanation, width in zip(explanations, artifact.widths or (None,), strict=True):
        print(f"  {'' if width is None else f'width {width}: '}{_summary(explanation)}")
    layers = {layer.name: layer for each in reversed(explanations) for layer in each.layers}
    for (reason, looks_binary), names in _by_reason(tuple(layers.values())).items():
        sign = "warning: " if looks_binary else ""
        stay = f"{names[0]} stays" if len(names) == 1 else f"{len(names)} layers stay"
        which = "" if len(names) == 1 else f" ({names[0]} to {names[-1]})"
        print(f"  {sign}{stay} float: {reason}{which}")
    if not any(explanation.binary_layers for explanation in explanations):
        print("  warning: no layer is binary; this object has no advantage over a float one")
    for sentence in result.left_out:
        print(f"  warning: {sentence}")
    _footprint(artifact, result.footprint)
    for width, found in zip(artifact.widths or (None,), result.agreements, strict=True):
        if found is not None:
            print(
                f"  {'' if width is None else f'width {width}: '}"
                f"{100 * found.agreeing / found.inputs:.2f} % of {found.inputs} answers as without "
                f"these options; logits: median difference {found.median_difference:.2g}"
            )


def _footprint(artifact: "Artifact", taken: "Footprint") -> None:
    """Flash, and the workspace and the stack of every width."""
    print(
        f"  flash: {taken.flash_bytes} bytes ({taken.code_bytes} code, {taken.constant_bytes} "
        f"constants){_smaller(taken)}"
    )
    for width, memory in zip(artifact.widths or (None,), taken.memory, strict=True):
        of = "" if width is None else f"width {width}: "
        stack = "" if memory.stack_bytes is None else f"; stack: {memory.stack_bytes} bytes"
        print(
            f"  {of}workspace: {memory.workspace_bytes} bytes, of which {memory.live_bytes} live "
            f"at once{stack}"
        )


def _smaller(taken: "Footprint") -> str:
    if not taken.float_bytes:
        return ""
    floats = f"the {taken.float_bytes} bytes of its weights as float32"
    return f", {taken.times_smaller:.1f} times smaller than {floats}"


def _each(widths: Sequence[int], facts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is said of one width, or of each under `widths`."""
    if not widths:
        return facts[0]
    return {"widths": [{"width": w, **said} for w, said in zip(widths, facts, strict=True)]}


def _summary(explanation: "Explanation") -> str:
    """How many layers are binary, and how much of the arithmetic that is."""
    layers, total = len(explanation.layers), explanation.multiply_accumulates
    share = explanation.binary_multiply_accumulates / (total or 1)
    return (
        f"{explanation.binary_layers} of {layers} layers binary, {100 * share:.1f} % of "
        f"{total} multiply-accumulates"
    )


def _by_reason(layers: "Sequence[Explained]") -> dict[tuple[str, bool], list[str]]:
    """The names of the float layers by why they are; layers of one kind tell one line."""
    names: dict[tuple[str, bool], list[str]] = {}
    for layer in layers:
        if not layer.binary:
            names.setdefault((layer.reason, layer.looks_binary), []).append(layer.name)
    return names


def explanation(found: "Explanation", *, as_json: bool) -> None:
    """A row a layer: its name, its share of the arithmetic, and what it becomes; then the sum."""
    if as_json:
        _json(**found.to_json())
        return
    table = Table("layer", Column("MACs", justify="right"), "becomes", box=None, pad_edge=False)
    for layer in found.layers:
        share = 100 * layer.multiply_accumulates / (found.multiply_accumulates or 1)
        planes = f"{layer.planes} × " if layer.planes > 1 else ""
        kind = planes if layer.binary else "warning: float: " if layer.looks_binary else "float: "
        function = f"; kernel {layer.function}" if layer.function else ""
        becomes = f"{kind}{layer.reason}{function}"
        table.add_row(*map(Text, (layer.name, f"{share:.1f} %", becomes)))
    console = Console()
    with console.capture() as captured:
        console.print(table)
    print(found.model)
    for line in captured.get().splitlines():
        print(line.rstrip())
    print(_summary(found))


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
    width = "" if artifact.width is None else f" width {artifact.width}"
    print(f"{artifact.folder}{width} on {device}, {reference} in onnxruntime, {result.clips} clips")
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


def tuned(result: "Result", *, as_json: bool) -> None:
    """A line a kernel: the best, the default, the trials; then what the costs are."""
    from bicompile.tuning.run import told_costs

    if as_json:
        _json(
            records=str(result.folder),
            unit=result.unit,
            source=result.source,
            kernels=[dataclasses.asdict(row) for row in result.rows],
        )
        return
    width = max(len(row.kernel) for row in result.rows)
    for row in result.rows:
        layer = f"  {row.layer}" if row.layer else ""
        print(f"{row.kernel:{width}}  {told_costs(row.default, row.best, result.unit)}{layer}")
    failed = sum(row.failed for row in result.rows)
    told = f", {failed} failed (see {result.log})" if failed else ""
    print(f"{sum(row.trials for row in result.rows)} trials in {result.folder}{told}")
    print(f"{result.unit}: {result.source}")


def evaluation(result: "Evaluation", *, as_json: bool) -> None:
    """A line a network, a column an engine; then how far each is above the first."""
    from bicompile.training.scores import table

    rows = list(zip(result.classifiers, map(result.accuracy, result.indices), strict=True))
    above = [result.above_first(number) for number in result.indices]
    if as_json:
        _json(
            data=str(result.data),
            split=result.split,
            clips=result.counts,
            total=result.total,
            rows=[
                {
                    "thing": classifier.thing,
                    "width": classifier.width,
                    "runs_in": classifier.runs_in,
                    "accuracy": accuracy,
                    "points_above_first": {
                        name: dataclasses.asdict(difference) for name, difference in points.items()
                    },
                }
                for (classifier, accuracy), points in zip(rows, above, strict=True)
            ],
        )
        return
    title = f"accuracy, %: {result.counts['all']} of {result.total} {result.split} clips"
    lines = {
        classifier.name: {
            "runs in": classifier.runs_in,
            **{name: f"{100 * share:.2f}" for name, share in accuracy.items()},
        }
        for classifier, accuracy in rows
    }
    lines["clips"] = {"runs in": "", **{name: str(n) for name, n in result.counts.items()}}
    print(table(title, lines))
    if len(rows) > 1:
        print()
        others = list(zip(rows, above, strict=True))[1:]
        lines = {
            classifier.name: {name: _difference(points) for name, points in differences.items()}
            for (classifier, _), differences in others
        }
        print(table("points above the first, with 95 % interval over voices", lines))


def _difference(points: "Difference") -> str:
    low, high = points.interval or (None, None)
    interval = "" if low is None else f" ({low:+.1f} to {high:+.1f})"
    return f"{points.points:+.2f}{interval}"


def targets(known: "Sequence[Target]", *, as_json: bool) -> None:
    """A line a target."""
    if as_json:
        _json(targets=[dataclasses.asdict(target) for target in known])
        return
    for target in known:
        print(f"{target.name:12} {target.about}")


def _short(clip: Path) -> str:
    return f"{clip.parent.name}/{clip.name}".lstrip("/")


def _json(**fields: Any) -> None:
    print(json.dumps(fields, indent=2))
