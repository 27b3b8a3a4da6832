"""What `cost` and `compare` print: for people, or with --json for programs."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bicompile.calls import KernelCall
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
    print("instructions are counted by the emulator; cycles are " + ", ".join(sources.values()))


def _cycles(row: "Row", core: str) -> str:
    over = row.over_floor(core)
    return f"{row.modelled_cycles[core]:11}  {'' if over is None else f'{over:.2f}':>7}"


def _named(row: "Row", by_kernel: bool) -> str:
    if not by_kernel or not row.layers:
        return row.name
    more = len(row.layers) - 1
    return f"{row.name}: {row.layers[0]}" + (f" and {more} more" if more else "")


def _row(row: "Row") -> dict[str, Any]:
    cores = row.modelled_cycles
    return {
        **dataclasses.asdict(row),
        "loads_a_unit": row.loads_a_unit,
        "over_floor": {core: row.over_floor(core) for core in cores},
    }


def _json(**fields: Any) -> None:
    print(json.dumps(fields, indent=2))
