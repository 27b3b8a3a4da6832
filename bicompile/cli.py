"""The command line: verbs only. Every verb is a thin shell around a function of the package."""

import os
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType
from typing import Annotated, Literal

import typer

from bicompile import cli_kernels
from bicompile.errors import UserError, told

_STOPPED = 130  # what typer makes of Ctrl-C

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compile binary neural networks to freestanding arm64 objects.",
)


@app.command()
def synthesize(
    out: Annotated[Path, typer.Argument(help="folder for the corpus")],
    seed: Annotated[int, typer.Option(help="the corpus is a function of this number")] = 0,
    jobs: Annotated[int, typer.Option(min=1, help="processes")] = 2,
) -> None:
    """Make a keyword corpus from speech engines, in the layout of Speech Commands."""
    from bicompile.training.synthesis import synthesize as run

    run(out, seed=seed, jobs=jobs)


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="corpus folder")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder of this training run")],
    recipe: Annotated[str, typer.Option(help="name of a recipe, or a TOML file")] = "default",
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="leave out sound files that cannot be read")
    ] = False,
) -> None:
    """Train the float teacher, then the binary student from it; run again to go on."""
    from bicompile.training.loop import train as run

    run(data, out, recipe=recipe, skip_unreadable=skip_unreadable)


@app.command()
def trace(
    model: Annotated[str, typer.Argument(help="checkpoint (.safetensors) or zoo:NAME")],
    out: Annotated[Path, typer.Option("--out", "-o", help="ONNX file to write")],
    width: Annotated[int, typer.Option(help="which of the network's widths")] = 0,
) -> None:
    """Write one width of a checkpoint as ONNX, checked against torch."""
    from bicompile.trace import trace as run
    from bicompile.zoo import checkpoint

    run(checkpoint(model), out, width=width)
    print(f"{out}: {out.stat().st_size} bytes, agrees with torch")


@app.command(name="compile")
def compile_(
    model: Annotated[str, typer.Argument(help="ONNX file, checkpoint (.safetensors) or zoo:NAME")],
    target: Annotated[str, typer.Option(help="see `bicompile targets`")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the artifact")],
    widths: Annotated[
        str | None,
        typer.Option(help="of a checkpoint or zoo model, such as 0,1,2  [default: 0]"),
    ] = None,
    sign_of_zero: Annotated[
        Literal["strict", "plus", "minus"],
        typer.Option(help="what a Sign gives at 0; with plus (+1) or minus (−1) it is one bit"),
    ] = "strict",
    constants: Annotated[
        Literal["float32", "float16"], typer.Option(help="what float constants are rounded to")
    ] = "float32",
    classifier: Annotated[
        Literal["float32", "int8"], typer.Option(help="weights of the last layer")
    ] = "float32",
    calibration: Annotated[
        str | None,
        typer.Option(
            help="what the effect of these two is measured on: sound files or a .npy of inputs  "
            "[default: zoo:clips]"
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option(help="run the graph before and after every pass and compare")
    ] = True,
    dump_ir: Annotated[
        Path | None, typer.Option(help="folder for the graph after every pass")
    ] = None,
    records: Annotated[
        str | None, typer.Option(help="folder of `bicompile tune`, or zoo: tuned schedules")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compile a model to a freestanding object."""
    from bicompile import show
    from bicompile.targets import find_target

    processor, chosen = find_target(target), _numbers(widths)
    from bicompile.pipeline import compile_model  # takes seconds: not before a wrong target is told

    with show.working(f"compiling {model} for {target}"):
        compiled = compile_model(
            model,
            processor,
            out,
            widths=chosen,
            sign_of_zero=sign_of_zero,
            constants=constants,
            classifier=classifier,
            calibration=calibration,
            check=check,
            dump_ir=dump_ir,
            records=records,
        )
    show.compiled(compiled, as_json=json)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="ONNX file, checkpoint (.safetensors) or zoo:NAME")],
    width: Annotated[
        int | None, typer.Option(help="of a checkpoint or zoo model  [default: 0]")
    ] = None,
    sign_of_zero: Annotated[
        Literal["strict", "plus", "minus"],
        typer.Option(help="what a Sign gives at 0; with plus (+1) or minus (−1) it is one bit"),
    ] = "strict",
    target: Annotated[
        str | None, typer.Option(help="also name the kernels that are chosen for it")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="with --target: kernel calls, buffers, bytes moved")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Say of every convolution and matrix product whether it becomes popcounts, or why not."""
    from bicompile import show
    from bicompile.explain import explain_model
    from bicompile.targets import find_target

    processor = find_target(target) if target is not None else None
    if plan and processor is None:
        raise UserError("a plan is for a processor: give --target too (see `bicompile targets`)")
    if plan and processor is not None:
        from bicompile import show_plan
        from bicompile.pipeline import explain_plan

        with show.working(f"planning {model}"):
            found = explain_plan(model, processor, width=width, sign_of_zero=sign_of_zero)
        show_plan.plan(found, as_json=json)
        return
    with show.working(f"explaining {model}"):
        if processor is None:
            explanation = explain_model(model, width=width, sign_of_zero=sign_of_zero)
        else:
            from bicompile.pipeline import explain_kernels  # takes seconds: see compile_

            explanation = explain_kernels(model, processor, width=width, sign_of_zero=sign_of_zero)
    show.explanation(explanation, as_json=json)


@app.command()
def run(
    artifact: Annotated[Path, typer.Argument(help="artifact folder")],
    clips: Annotated[
        list[str], typer.Argument(help="sound files or folders of them; zoo:clips for samples")
    ],
    width: Annotated[int | None, typer.Option(help=cli_kernels.WIDTH)] = None,
    device: Annotated[str, typer.Option(help="emulator, qemu or host")] = "emulator",
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Say what an artifact hears in sound files."""
    from bicompile import show
    from bicompile.artifact import read_artifact
    from bicompile.devices import open_device
    from bicompile.recognise import recognise
    from bicompile.zoo import clip_paths

    found = recognise(read_artifact(artifact).at(width), open_device(device), clip_paths(clips))
    show.recognitions(found, device, as_json=json)


@app.command()
def verify(
    artifact: Annotated[Path, typer.Argument(help="artifact folder")],
    clips: Annotated[
        list[str] | None,
        typer.Argument(help="sound files or folders of them  [default: zoo:clips]"),
    ] = None,
    width: Annotated[int | None, typer.Option(help=cli_kernels.WIDTH)] = None,
    device: Annotated[str, typer.Option(help="emulator, qemu or host")] = "emulator",
    model: Annotated[
        Path | None,
        typer.Option(help="ONNX file to compare with  [default: the zoo's, else lowered.onnx]"),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compare an artifact on a device with its model in onnxruntime; status 1 if they differ."""
    from bicompile import show
    from bicompile.artifact import read_artifact
    from bicompile.devices import open_device
    from bicompile.load import load_model
    from bicompile.recognise import features_of, find_clips
    from bicompile.verify import verify as compare
    from bicompile.zoo import clip_paths, traced_model

    read = read_artifact(artifact).at(width)
    files = find_clips(clip_paths(clips or ["zoo:clips"]))
    features, _ = features_of(files, read)
    reference = model or traced_model(read)
    with show.working(f"verifying {artifact} on {device}"):
        result = compare(read, open_device(device), features, load_model(reference))
    show.verification(result, read, files, device, reference.name, as_json=json)
    if not result.passed:
        raise typer.Exit(1)


@app.command()
def evaluate(
    things: Annotated[
        list[str],
        typer.Argument(help="checkpoints (each width), zoo:NAME, ONNX files, artifact folders"),
    ],
    data: Annotated[Path, typer.Option(help="corpus folder")],
    split: Annotated[str, typer.Option(help="test or validation")] = "test",
    clips: Annotated[
        int | None, typer.Option(min=1, help="take so many clips only, the same for all")
    ] = None,
    width: Annotated[
        int | None, typer.Option(help="of artifacts that have several  [default: each]")
    ] = None,
    device: Annotated[str, typer.Option(help="of artifacts: emulator, qemu or host")] = "emulator",
    plots: Annotated[Path | None, typer.Option(help="folder for plots (PNG)")] = None,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="leave out sound files that cannot be read")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Compare the accuracy of networks on a corpus, whatever they run in."""
    from bicompile import show
    from bicompile.evaluate import evaluate as run

    if plots is not None:
        import bicompile.training.plots  # noqa: F401 - missing packages are told before the work
    result = run(
        things,
        data,
        split=split,
        clips=clips,
        width=width,
        device=device,
        skip_unreadable=skip_unreadable,
    )
    show.evaluation(result, as_json=json)
    if plots is not None:
        result.write_plots(plots)


@app.command()
def cost(
    artifact: Annotated[Path, typer.Argument(help="artifact folder")],
    width: Annotated[int | None, typer.Option(help=cli_kernels.WIDTH)] = None,
    core: Annotated[
        list[str] | None,
        typer.Option(help="core to model, again for more: cortex-a53, cortex-a72, neoverse-n1"),
    ] = None,
    kernels: Annotated[
        bool, typer.Option("--kernels", help="a row a kernel, with the layers that share it")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """Say what each layer costs: instructions counted, cycles modelled, registers, spills."""
    from bicompile import show_costs
    from bicompile.artifact import read_artifact
    from bicompile.calls import read_calls
    from bicompile.cost.report import model_source, observe, sample_of

    read = read_artifact(artifact).at(width)
    cores = core or ["cortex-a53"]
    run = observe(read.executable, sample_of(read.executable), cores)
    calls = read_calls(read.report)
    sources = {name: model_source(name) for name in cores}
    show_costs.costs(run, calls, sources, by_kernel=kernels, as_json=json)


app.command()(cli_kernels.report)
app.command()(cli_kernels.compare)
app.command()(cli_kernels.tune)


@app.command()
def targets(
    json: Annotated[bool, typer.Option("--json", help="print the result as JSON")] = False,
) -> None:
    """List the processors that can be compiled for."""
    from bicompile import show
    from bicompile.targets import all_targets

    show.targets(all_targets(), as_json=json)


def _numbers(words: str | None) -> tuple[int, ...] | None:
    """The widths in an argument such as 0,1,2."""
    if words is None:
        return None
    try:
        return tuple(int(word) for word in words.split(","))
    except ValueError:
        raise UserError(
            f"--widths is {words!r}; give numbers with commas between them, such as 0,1,2"
        ) from None


def main() -> None:
    """Run the command line; exit status 0 good, 1 a check failed, 2 bad input or usage."""
    debug = "--debug" in sys.argv
    interrupts = _count_interrupts()
    try:
        app([argument for argument in sys.argv[1:] if argument != "--debug"])
    except SystemExit as ended:  # so a verb ends
        status = ended.code
    except Exception as error:
        if debug:
            traceback.print_exc()
        # An interrupt inside TVM comes out of it as an error of another kind.
        status, sentence = (_STOPPED, "") if interrupts else told(error)
        if sentence:
            print(f"bicompile: {sentence}", file=sys.stderr)
    if status == _STOPPED:
        print("bicompile: stopped; what was finished is kept", file=sys.stderr)
    try:
        sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing can be said there
        if not isinstance(error, BrokenPipeError):  # the reader, such as head, has enough
            print(f"bicompile: the output cannot be written ({error.strerror})", file=sys.stderr)
            status = 2
    sys.exit(status)


def _count_interrupts() -> list[int]:
    """Let Ctrl-C raise KeyboardInterrupt as ever, and note that it did."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, note)
    return noted
