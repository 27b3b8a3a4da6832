"""Constants in fewer bytes as naive TIR loop nests that spread them out.

As in workloads: schedules find a nest by its attribute `bicompile.kind`.
"""

from typing import Literal

from tvm import te, tirx

from bicompile.workloads import KIND

FORM = "bicompile.form"
"""How numbers lie, a Form."""

Form = Literal["halves", "steps", "line"]


def spread(form: Form, dtype: str, n: int) -> tirx.PrimFunc:
    """Numbers (n,) of `dtype` → (n,) float32.

    With "halves" each as it is; with the operand `line`, float32 (2,), as (line[0] + number) ·
    line[1] for "steps", where line[0] is whole, and line[0] + number · line[1] for "line".
    """
    numbers = te.placeholder((n,), dtype, "numbers")
    line = te.placeholder((2,), "float32", "line")

    def one(i: tirx.Var) -> tirx.Expr:
        number = numbers[i].astype("float32")
        if form == "steps":
            return (line[0] + number) * line[1]
        return number if form == "halves" else line[0] + number * line[1]

    operands = [numbers] if form == "halves" else [numbers, line]
    nest = te.create_prim_func([*operands, te.compute((n,), one, "floats")])
    return nest.without_attr("global_symbol").with_attr(KIND, "spread").with_attr(FORM, form)
