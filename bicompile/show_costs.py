"""What `cost` and `compare` print: for people, or with --json for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bicompile.calls import KernelCall
    from bicompile.compare import Compared, Shape
    from bicompile.cost.report import Observed, Row


def costs(
    run: "Observed",
    calls: "Sequence[KernelCall]",
    sources: Mapping[str, str],
    *,
    by_kernel: bool,
    as_json: bool,
) -> None:
    """A line a layer or a kernel, the dearest first, and the sum; every model is named."""
    if as_json:
        tables = {
            "layers": run.layers(calls),
            "kernels": run.kernels(calls),
            "functions": run.functions(),
        }
        _json(
            **{name: list(map(_row, rows)) for name, rows in tables.items()},
            total=_row(run.total("in all")),
            models=dict(sources),
        )
        return
    rows = run.kernels(calls) if by_kernel else run.layers(calls)
    total = run.total("in all")
    first = next(iter(sources))
    heads = [f"{core:>11}  {'× floor':>7}" for core in sources]
    print(
        f"{'instructions':>12}  {'vector':>7}  {'a unit':>6}  {'loads':>5}  {'  '.join(heads)}  "
        f"{'share':>6}  {'registers':>9}  {'spills':>6}"
    )
    for row in (*rows, total):
        share = row.modelled_cycles[first] / (total.modelled_cycles[first] or 1)
        a_unit = f"{row.instructions / row.units:.2f}" if row.units else ""
        loads = "" if row.loads_a_unit is None else f"{row.loads_a_unit:.2f}"
        print(
            f"{row.instructions:12}  {row.vector_instructions:7}  {a_unit:>6}  {loads:>5}  "
            f"{'  '.join(_cycles(row, core) for core in sources)}  {share:6.1%}  "
            f"{row.registers:9}  {row.spills:6}  {_named(row, by_kernel)}"
        )
    print(_sources(sources))


def comparison(
    shapes: "Sequence[Shape]",
    left_out: Sequence[str],
    sources: Mapping[str, str],
    notes: Sequence[str],
    *,
    machine: str,
    as_json: bool,
) -> None:
    """A line a kernel for every shape, all figures for a unit; then where they come from."""
    untuned = [
        f"{_sides(shape)} is not tuned: {shape.untuned}" for shape in shapes if shape.untuned
    ]
    if as_json:
        _json(
            shapes=[_shape(shape) for shape in shapes],
            left_out=list(left_out),
            models=dict(sources),
            machine=machine or None,
            notes=list(notes),
        )
        return
    heads = [f"{core:>11}  {'× hand':>6}" for core in sources]
    timed = f"  {'microseconds':>12}  {'quartiles':>15}" if machine else ""
    print(
        f"{'K,M,N':14}  {'kernel':7}  {'exact':5}  {'instructions':>12}  {'vector':>6}  "
        f"{'loads':>5}  {'registers':>9}  {'spills':>6}  {'  '.join(heads)}{timed}"
    )
    for shape in shapes:
        product = shape.product
        name = _sides(shape)
        for each in shape.kernels:
            cost, units = each.cost, product.units
            modelled = [
                f"{cost.modelled_cycles[core] / units:11.2f}  {each.ratios[core]:6.2f}"
                for core in sources
            ]
            print(
                f"{name:14}  {each.kernel:7}  {'yes' if each.exact else 'NO':5}  "
                f"{cost.instructions / units:12.2f}  {cost.vector_instructions / units:6.2f}  "
                f"{cost.vectors_loaded / units:5.2f}  {cost.registers:9}  {cost.spills:6}  "
                f"{'  '.join(modelled)}{_timed(each) if machine else ''}"
            )
            name = ""
        if shape.layers:
            print(f"  {_first_of(shape.layers)}")
    print("figures are for a unit, 128 binary multiply-accumulates; results are float32")
    print(_sources(sources))
    if machine:
        print(f"microseconds of a whole run are measured on {machine}, one thread")
    for note in (*notes, *untuned):
        print(note)
    if left_out:
        print(f"left out, as it is no matrix product: {_first_of(left_out)}")


def _timed(each: "Compared") -> str:
    if each.seconds is None:
        return f"  {'-':>12}"
    low, median, high = (
        1e6 * value for value in (each.seconds.low, each.seconds.median, each.seconds.high)
    )
    return f"  {median:12.2f}  {f'{low:.2f} to {high:.2f}':>15}"


def _sides(shape: "Shape") -> str:
    product = shape.product
    return f"{product.bits},{product.outputs},{product.columns}"


def _shape(shape: "Shape") -> dict[str, Any]:
    return {
        **dataclasses.asdict(shape.product),
        "units": shape.product.units,
        "layers": list(shape.layers),
        "untuned": shape.untuned or None,
        "kernels": [
            {
                "kernel": each.kernel,
                "exact": each.exact,
                **{
                    name: getattr(each.cost, name)
                    for name in ("instructions", "vector_instructions", "vectors_loaded")
                },
                "registers": each.cost.registers,
                "spills": each.cost.spills,
                "modelled_cycles": dict(each.cost.modelled_cycles),
                "ratios": dict(each.ratios),
                "seconds": each.seconds and dataclasses.asdict(each.seconds),
            }
            for each in shape.kernels
        ],
    }


def _cycles(row: "Row", core: str) -> str:
    over = row.over_floor(core)
    return f"{row.modelled_cycles[core]:11}  {'' if over is None else f'{over:.2f}':>7}"


def _named(row: "Row", by_kernel: bool) -> str:
    if not by_kernel or not row.layers:
        return row.name
    return f"{row.name}: {_first_of(row.layers)}"


def _first_of(layers: Sequence[str]) -> str:
    more = len(layers) - 1
    return layers[0] + (f" and {more} more" if more else "")


def _sources(sources: Mapping[str, str]) -> str:
    return "instructions are counted by the emulator; cycles are " + ", ".join(sources.values())


def _row(row: "Row") -> dict[str, Any]:
    cores = row.modelled_cycles
    return {
        **dataclasses.asdict(row),
        "loads_a_unit": row.loads_a_unit,
        "over_floor": {core: row.over_floor(core) for core in cores},
    }


def _json(**fields: Any) -> None:
    print(json.dumps(fields, indent=2))
