"""The folder of a report: report.html and report.json."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from jinja2 import Environment, PackageLoader, StrictUndefined

from bicompile.artifact import Artifact
from bicompile.cost.loops import hottest_loops
from bicompile.cost.report import Row, model_source
from bicompile.files import atomic_folder
from bicompile.reporting import charts
from bicompile.reporting.ir import steps_of
from bicompile.reporting.measured import Measured, check_twin, measure, ratios, to_json, totals

PAGE, FIGURES = "report.html", "report.json"


def write_report(
    artifact: Artifact,
    out: Path,
    *,
    twin: Artifact | None = None,
    traced: onnx.ModelProto | None = None,
    cores: Sequence[str] = ("cortex-a53",),
) -> dict[str, float]:
    """Run an artifact and its float twin, write the folder `out`; gives the ratios to the twin.

    The charts are of the first core; of the artifact's other widths the totals are told. `traced`
    is the graph that the artifact was compiled from.
    Raises UserError for what is not accepted; `out` is then as it was.
    """
    if twin is not None:
        check_twin(artifact, twin)
    ours = measure(artifact, cores)
    other = None if twin is None else measure(twin, cores)
    widths = totals(ours)
    page = _page(ours, other, traced, cores, widths)
    with atomic_folder(out, replaces=PAGE) as folder:
        (folder / PAGE).write_text(page)
        (folder / FIGURES).write_text(json.dumps(to_json(ours, other, widths), indent=2) + "\n")
    return {} if other is None else ratios(ours, other)


def _page(
    ours: Measured,
    twin: Measured | None,
    traced: onnx.ModelProto | None,
    cores: Sequence[str],
    widths: Mapping[int, Row],
) -> str:
    core = cores[0]
    environment = Environment(
        loader=PackageLoader("bicompile.reporting", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("page.html.jinja").render(
        ours=ours,
        twin=twin,
        ratios=None if twin is None else ratios(ours, twin),
        widths=widths,
        cores=cores,
        core=core,
        sources=[model_source(name) for name in cores],
        cycles=charts.cycles_chart(ours, twin, core),
        roofline=charts.roofline(ours, twin, core),
        loops=hottest_loops(ours.artifact.executable, ours.run, core),
        steps=steps_of(ours, traced, core),
    )
