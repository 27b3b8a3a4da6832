"""The verbs that look at kernels one by one; see cli."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from bicompile.errors import UserError

WIDTH = "where the artifact has several  [default: its first]"


def report(
    artifact: Annotated[Path, typer.Argument(help="artifact folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the report")],
    width: Annotated[int | None, typer.Option(help=WIDTH)] = None,
    twin: Annotated[
        Path | None, typer.Option("--float", help="artifact of the float network, to compare with")
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file that was compiled, to show  [default: the zoo's, if it was]"),
    ] = None,
    core: Annotated[
        list[str] | None,
        typer.Option(help="core to model, again for more: cortex-a53, cortex-a72, neoverse-n1"),
    ] = None,
) -> None:
    """Write a page on an artifact: layers, cycles, roofline, registers, IR before and after."""
    from bicompile import show
    from bicompile.artifact import read_artifact
    from bicompile.load import load_model
    from bicompile.reporting.page import PAGE, write_report
    from bicompile.zoo import PREFIX, traced_model

    read = read_artifact(artifact).at(width)
    other = None if twin is None else read_artifact(twin)
    from_zoo = traced_model(read) if read.source.startswith(PREFIX) else None
    source = model or from_zoo
    with show.working(f"reporting on {artifact}"):
        ratios = write_report(
            read,
            out,
            twin=other,
            traced=None if source is None else load_model(source),
            cores=core or ["cortex-a53"],
        )
    print(f"{out / PAGE}: opens in a browser, offline")
    for name, ratio in ratios.items():
        cycles = "" if name == "instructions" else "modelled cycles of "
        print(f"  the float network takes {ratio:.2f} times the {cycles}{name}")


def compare(
    what: Annotated[
        list[str],
        typer.Argument(help="ONNX file, checkpoint or zoo:NAME; with --shapes K,M,N ..."),
    ],
    shapes: Annotated[
        bool, typer.Option("--shapes", help="the arguments are K bits, M outputs, N columns")
    ] = False,
    target: Annotated[str, typer.Option(help="arm64 target to build for")] = "cortex-a53",
    core: Annotated[
        list[str] | None,
        typer.Option(help="core to model, again for more  [default: all that can be]"),
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="of a checkpoint or zoo model  [default: 0]")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="host or rpc://HOST:PORT/KEY: also measure seconds there")
    ] = None,
    records: Annotated[
        list[str] | None,
        typer.Option(
            help="folder of `bicompile tune`, again for more  [default: zoo, if it has the target]"
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Set our kernels, default and tuned, beside the hand kernel; status 1 if one is wrong."""
    from bicompile import show, show_costs
    from bicompile.cost.report import available_cores, model_source
    from bicompile.targets import find_target

    processor = find_target(target)
    cores, notes = available_cores(core)
    from bicompile.compare import compare as run
    from bicompile.compare import parse_shapes, products_of
    from bicompile.machines import open_machine
    from bicompile.records import open_records

    if not shapes and len(what) > 1:
        raise UserError(f"give one model, not {len(what)}; shapes come after --shapes")
    wanted = parse_shapes(what) if shapes else products_of(what[0], width=width)
    machine = None if device is None else open_machine(device, processor)
    with show.working("comparing"):
        found = run(wanted, processor, cores, machine, open_records(records, processor))
    show_costs.comparison(
        found,
        wanted.left_out,
        {name: model_source(name) for name in cores},
        [*notes, *(machine.notes if machine else ())],
        machine=machine.about if machine else "",
        as_json=json,
    )
    if not all(each.exact for shape in found for each in shape.kernels):
        raise typer.Exit(1)


def tune(
    what: Annotated[
        list[str],
        typer.Argument(help="ONNX file, checkpoint or zoo:NAME; with --shapes K,M,N ..."),
    ],
    target: Annotated[str, typer.Option(help="see `bicompile targets`")],
    records: Annotated[Path, typer.Option(help="folder for the records; run again to go on")],
    device: Annotated[
        str, typer.Option(help="emulator, host, or rpc://HOST:PORT/KEY: boards of a TVM tracker")
    ] = "emulator",
    trials: Annotated[int, typer.Option(min=1, help="of each kernel, in all runs together")] = 128,
    shapes: Annotated[
        bool, typer.Option("--shapes", help="the arguments are K bits, M outputs, N columns")
    ] = False,
    width: Annotated[
        int | None, typer.Option(help="of a checkpoint or zoo model  [default: 0]")
    ] = None,
    sign_of_zero: Annotated[
        Literal["strict", "plus", "minus"],
        typer.Option(help="what a Sign gives at 0; with plus (+1) or minus (−1) it is one bit"),
    ] = "strict",
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Search for faster schedules of binary kernels; Ctrl-C keeps what was measured."""
    from bicompile import show
    from bicompile.targets import find_target

    processor = find_target(target)
    from bicompile.compare import parse_shapes
    from bicompile.tuning.run import kernels_of_model, kernels_of_products, tune_kernels

    if not shapes and len(what) > 1:
        raise UserError(f"give one model, not {len(what)}; shapes come after --shapes")
    with show.working("loading"):
        if shapes:
            kernels = kernels_of_products(list(parse_shapes(what).products), processor)
        else:
            kernels = kernels_of_model(what[0], processor, width=width, sign_of_zero=sign_of_zero)
    result = tune_kernels(kernels, processor, records, device=device, trials=trials)
    show.tuned(result, as_json=json)
