"""Scheduled TIR → assembly: plain C functions on raw pointers, nothing of a runtime."""

import re
from collections.abc import Mapping

import tvm
from tvm import s_tir, tirx
from tvm.ir import PointerType, PrimType

from bicompile.errors import UserError
from bicompile.targets import Target


def emit_assembly(kernels: Mapping[str, tirx.PrimFunc], target: Target) -> str:
    """Compile kernels to one assembly text; kernel `k` becomes a local function `k`.

    A kernel takes a pointer for every buffer, in order, and returns nothing. Raises UserError where
    TVM cannot compile them.
    """
    functions = {
        tvm.ir.GlobalVar(name): function.with_attr("global_symbol", name)
        for name, function in kernels.items()
    }
    try:
        module = _lower(tvm.IRModule(functions), tvm_target(target))
        built = tvm.get_global_func("target.build.llvm")(module, tvm_target(target))
    except Exception as error:  # TVM's of any kind: a foreign nest may have any form
        why = (str(error).splitlines() or [""])[0].strip(" .:") or type(error).__name__
        raise UserError(
            f"TVM cannot compile the kernels {', '.join(kernels)} ({why}); export the model "
            "without the ops that they stand for"
        ) from error
    return _localize(str(built.inspect_source("s")), kernels)


def tvm_target(target: Target) -> tvm.target.Target:
    """TVM's name for a target."""
    description = {
        "kind": "llvm",
        "mtriple": target.triple,
        "mcpu": target.cpu,
        "mattr": list(target.features),
        # LLVM's O3 unrolls small nests whole: a third more code for under one percent of speed.
        "opt-level": 2,
    }
    return tvm.target.Target(description)


def _lower(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    """TVM's own TIR pipeline, less what wraps a function for its runtime.

    Left out are the packed calling convention and the lowering of allocations to runtime calls;
    what a kernel allocates stays on its stack.
    """
    pipeline = tvm.transform.Sequential(
        [
            tirx.transform.BindTarget(target.with_host(target)),
            s_tir.transform.CanonicalizeLoop(),
            s_tir.transform.LowerInitBlock(),
            s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
            s_tir.transform.ConvertBlocksToOpaque(),
            s_tir.transform.CompactBufferAllocation(),
            s_tir.transform.LowerMatchBuffer(),
            s_tir.transform.StmtSimplify(),
            s_tir.transform.LowerOpaqueBlock(),
            _take_raw_pointers,
            tirx.transform.FlattenBuffer(),
            tirx.transform.NarrowDataType(32),
            s_tir.transform.LoopPartition(),
            tirx.transform.VectorizeLoop(True),
            tirx.transform.StorageRewrite(),
            s_tir.transform.HoistIfThenElse(),
            tirx.transform.UnrollLoop(),
            s_tir.transform.RenormalizeSplitPattern(),
            tirx.transform.StmtSimplify(),
            tirx.transform.RemoveNoOp(),
            s_tir.transform.RewriteUnsafeSelect(),
            tirx.transform.CommonSubexprElim(),
            tirx.transform.VerifyMemory(),
            tirx.transform.SkipAssert(),
            tirx.transform.LowerIntrin(),
        ]
    )
    return pipeline(module)


@tvm.transform.module_pass(opt_level=0, name="TakeRawPointers")
def _take_raw_pointers(module: tvm.IRModule, _context: tvm.transform.PassContext) -> tvm.IRModule:
    """Turn every buffer parameter into a pointer, declared as that buffer inside."""
    functions = {}
    for variable, function in module.functions_items():
        pointers, declarations = [], []
        for buffer in function.params:
            element = PointerType(PrimType(str(buffer.ty.dtype)), "global")
            pointer = tirx.Var(f"{buffer.name}_pointer", element)
            pointers.append(pointer)
            declarations.append(tirx.DeclBuffer(buffer, data=pointer))
        body = tirx.SeqStmt([*declarations, function.body])
        functions[variable] = tirx.PrimFunc(pointers, body, function.ret_type, function.attrs)
    return tvm.IRModule(functions, attrs=module.attrs)


def _localize(assembly: str, kernels: Mapping[str, tirx.PrimFunc]) -> str:
    """Make the kernels local symbols, and free the names of LLVM's labels for other text."""
    names = "|".join(map(re.escape, kernels))
    assembly = re.sub(rf"^\s*\.globl\s+(?:{names})\b.*\n", "", assembly, flags=re.MULTILINE)
    return re.sub(r"\.L(?=\w)", ".Lkernel_", assembly)
