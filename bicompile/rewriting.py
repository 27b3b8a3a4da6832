"""Applying every pass in order, with the proof by running after each."""

from pathlib import Path

import onnx
import onnx_ir as ir

from bicompile.check import check_inputs, check_pass, observe, with_sign_of_zero
from bicompile.errors import UserError
from bicompile.files import atomic_file
from bicompile.ops import DOMAIN, VERSION, function_protos
from bicompile.passes import PASSES
from bicompile.passes.sign_of_zero import CHOICE, SignOfZero
from bicompile.passes.sign_of_zero import sign_of_zero as take_zero


def run_passes(
    traced: onnx.ModelProto,
    *,
    check: bool,
    sign_of_zero: SignOfZero = "strict",
    dump_ir: Path | None = None,
) -> onnx.ModelProto:
    """Apply every pass in order; after each the graph is valid and, with `check`, gives the same.

    `dump_ir` takes the graphs: `00-traced.onnx`, then one after every pass, named after it, the
    last `NN-packed.onnx`. Raises UserError naming the pass, the node and the input where the graphs
    before and after differ.
    """
    model = ir.from_proto(traced)
    model.metadata_props[CHOICE] = sign_of_zero
    model.opset_imports[DOMAIN] = VERSION
    for function in map(ir.from_proto, function_protos()):
        model.functions[function.identifier()] = function
    before = ir.to_proto(model)
    observed = observe(before, check_inputs(before)) if check else None
    _dump(before, dump_ir, 0, "traced")
    for number, rewrite in enumerate(PASSES, start=1):
        name = rewrite.__name__
        rewrite(model)
        after = ir.to_proto(model)
        # Dumped before it is checked: a wrong graph is what a person wants to open then.
        _dump(after, dump_ir, number, "packed" if number == len(PASSES) else name)
        if after == before:
            continue
        _check_valid(name, after)
        if observed is not None:
            if rewrite is take_zero:  # the one pass that may change something: what was asked for
                observed = observe(with_sign_of_zero(before, sign_of_zero), observed.inputs)
            found = observe(after, observed.inputs, f"the graph after pass {name}")
            check_pass(name, observed, found)
            observed = found
        before = after
    return before


def _check_valid(name: str, model: onnx.ModelProto) -> None:
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        said = " ".join(str(error).partition("==> Context")[0].split()).rstrip(".")
        raise UserError(
            f"pass {name} left a graph that is not valid ONNX ({said}); nothing was written, "
            "please report the model"
        ) from error


def _dump(model: onnx.ModelProto, folder: Path | None, number: int, name: str) -> None:
    if folder is None:
        return
    if number == 0 and (folder / "00-traced.onnx").exists():  # what an earlier compile left
        for old in folder.glob("[0-9][0-9]-*.onnx"):
            old.unlink()
    path = folder / f"{number:02}-{name.replace('_', '-')}.onnx"
    with atomic_file(path) as temporary:
        temporary.write_bytes(model.SerializeToString(deterministic=True))
