"""Popcount GEMM: rows of packed bits against rows of packed weights → (M, N) int32 counts.

On aarch64 the nest is tensorized to one call of a microkernel, see microkernels.count_tree and
microkernels.interleaved. Elsewhere, and where rows are too long for that, it is tiled.

The intrinsic is a tile of MI × NI results. Each step loads MI + NI vectors of 16 bytes and does
EOR, CNT and ADD for every result on independent chains; 8-bit lanes hold at most 255, CNT gives at
most 8, so after 31 steps they fold into 32-bit lanes. One horizontal sum per result ends it.
"""

from functools import cache

from tvm import s_tir, tirx
from tvm.s_tir import TensorIntrin
from tvm.script import tirx as T

from bicompile.schedules import microkernels
from bicompile.schedules.decisions import Tile, decided
from bicompile.schedules.intrinsics import sum_of_bytes
from bicompile.schedules.kernel import Kernel
from bicompile.workloads import USED_BYTES

VECTOR_BYTES = 16
_STEPS_PER_FOLD = 31


def counted(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule | Kernel:
    """Call a microkernel or tile, as is decided."""
    bare, decisions = decided(function, arch)
    if isinstance(decisions, Tile):
        return tiled(function, arch)
    return _called(bare, decisions)


def _called(function: tirx.PrimFunc, choices: microkernels.Choices) -> Kernel:
    """Tensorize the whole nest to one call; TVM compares the nest with the call's meaning."""
    m, stride = (int(dim) for dim in function.params[0].ty.shape)
    n = int(function.params[1].ty.shape[0])
    kernel = microkernels.popcount_gemm(
        microkernels.Shape(m, n, int(function.attrs[USED_BYTES]), stride, choices=choices)
    )
    schedule = s_tir.Schedule(function)
    block = schedule.get_sblock("count", func_name="main")
    outermost = schedule.get_loops(block)[0]
    schedule.decompose_reduction(block, outermost)
    schedule.tensorize(outermost, _microkernel(m, n, stride, kernel.name))
    scheduled = schedule.mod["main"]
    # The microkernel writes every count, so the zeros that the nest begins with are not needed.
    root = scheduled.body.block
    _, call = root.body
    body = s_tir.SBlockRealize([], True, s_tir.SBlock([], [], [], "root", call))
    return Kernel(
        tirx.PrimFunc(scheduled.params, body, scheduled.ret_type, scheduled.attrs),
        {kernel.name: kernel.assembly},
        # A constant's shape is that of the first node that used it.
        {1: lambda constant: kernel.lay_out(constant.reshape(n, stride))},
    )


@cache
def _microkernel(m: int, n: int, row_bytes: int, function: str) -> str:
    """Register a microkernel as the intrinsic for a whole nest; returns the intrinsic's name."""

    @T.prim_func(s_tir=True)
    def instructions(a: T.handle, w: T.handle, c: T.handle):
        A = T.match_buffer(a, (m, row_bytes), "uint8", offset_factor=1)
        W = T.match_buffer(w, (n, row_bytes), "uint8", offset_factor=1)
        C = T.match_buffer(c, (m, n), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:m, 0:n], A[0:m, 0:row_bytes], W[0:n, 0:row_bytes])
            T.writes(C[0:m, 0:n])
            T.evaluate(
                T.call_extern(
                    "void", function, A.access_ptr("r"), W.access_ptr("r"), C.access_ptr("w")
                )
            )

    name = f"bicompile.{function}"
    TensorIntrin.register(name, _meaning(m, n, row_bytes), instructions)
    return name


def tiled(function: tirx.PrimFunc, arch: str) -> s_tir.Schedule:
    """Tile both sides, of every group, keep K whole inside, and tensorize the tile."""
    function, decisions = decided(function, arch)
    if not isinstance(decisions, Tile):
        raise ValueError(f"a tile is asked for and {decisions} is decided")
    row_bytes = int(function.params[1].ty.shape[1])
    schedule = s_tir.Schedule(function)
    block = schedule.get_sblock("count", func_name="main")
    i, j, k = schedule.get_loops(block)[-3:]
    mi, ni = decisions.rows, decisions.outputs
    i_outer, i_inner = schedule.split(i, [None, mi], preserve_unit_iters=True)
    j_outer, j_inner = schedule.split(j, [None, ni], preserve_unit_iters=True)
    schedule.reorder(i_outer, j_outer, i_inner, j_inner, k)
    schedule.decompose_reduction(block, i_inner)
    schedule.tensorize(i_inner, _tile(mi, ni, row_bytes, arch))
    return schedule


@cache
def _tile(mi: int, ni: int, row_bytes: int, arch: str) -> str:
    """Register the intrinsic for one tile and row length; returns its name."""
    name = f"bicompile.popcount_{arch}_{mi}x{ni}x{row_bytes}"
    TensorIntrin.register(name, _meaning(mi, ni, row_bytes), _instructions(mi, ni, row_bytes, arch))
    return name


def _meaning(mi: int, ni: int, row_bytes: int) -> tirx.PrimFunc:
    @T.prim_func(s_tir=True)
    def meaning(a: T.handle, w: T.handle, c: T.handle):
        A = T.match_buffer(a, (mi, row_bytes), "uint8", offset_factor=1)
        W = T.match_buffer(w, (ni, row_bytes), "uint8", offset_factor=1)
        C = T.match_buffer(c, (mi, ni), "int32", offset_factor=1)
        with T.sblock("root"):
            T.reads(C[0:mi, 0:ni], A[0:mi, 0:row_bytes], W[0:ni, 0:row_bytes])
            T.writes(C[0:mi, 0:ni])
            for i, j, k in T.grid(mi, ni, row_bytes):
                with T.sblock("count"):
                    # A side of one is no axis of the block that tensorize compares with this.
                    vi = T.axis.spatial(mi, i) if mi > 1 else T.meta_var(0)
                    vj = T.axis.spatial(ni, j) if ni > 1 else T.meta_var(0)
                    vk = T.axis.reduce(row_bytes, k)
                    C[vi, vj] = C[vi, vj] + T.cast(T.popcount(A[vi, vk] ^ W[vj, vk]), "int32")

    return meaning


def _instructions(mi: int, ni: int, row_bytes: int, arch: str) -> tirx.PrimFunc:
    steps = row_bytes // VECTOR_BYTES
    folds, last = divmod(steps, _STEPS_PER_FOLD)
    cells = mi * ni

    @T.prim_func(s_tir=True)
    def instructions(a: T.handle, w: T.handle, c: T.handle):
        sa = T.int32()
        sw = T.int32()
        sc = T.int32()
        A = T.match_buffer(a, (mi, row_bytes), "uint8", offset_factor=1, strides=[sa, 1])
        W = T.match_buffer(w, (ni, row_bytes), "uint8", offset_factor=1, strides=[sw, 1])
        C = T.match_buffer(c, (mi, ni), "int32", offset_factor=1, strides=[sc, 1])
        with T.sblock("root"):
            T.reads(C[0:mi, 0:ni], A[0:mi, 0:row_bytes], W[0:ni, 0:row_bytes])
            T.writes(C[0:mi, 0:ni])
            lanes = T.alloc_buffer((cells,), "uint8x16", scope="local")
            for g in T.serial(folds + 1):
                for p in T.unroll(cells):
                    lanes[p] = T.broadcast(T.uint8(0), 16)
                for s in T.serial(T.if_then_else(g < folds, _STEPS_PER_FOLD, last)):
                    for i in T.unroll(mi):
                        for j in T.unroll(ni):
                            lanes[i * ni + j] = lanes[i * ni + j] + T.popcount(
                                A[i, T.ramp((g * _STEPS_PER_FOLD + s) * VECTOR_BYTES, 1, 16)]
                                ^ W[j, T.ramp((g * _STEPS_PER_FOLD + s) * VECTOR_BYTES, 1, 16)]
                            )
                for i in T.unroll(mi):
                    for j in T.unroll(ni):
                        C[i, j] = C[i, j] + sum_of_bytes(lanes[i * ni + j], arch)

    return instructions
