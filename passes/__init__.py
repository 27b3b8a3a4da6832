"""Graph passes: one file a rewrite, each with its law. `PASSES` is the whole list, in order."""

from collections.abc import Callable

import onnx_ir as ir

from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.channels_last import channels_last
from bicompile.passes.depthwise_taps import depthwise_taps
from bicompile.passes.fold_affine import fold_affine
from bicompile.passes.fold_batch_norm import fold_batch_norm
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused

Pass = Callable[[ir.Model], None]

PASSES: tuple[Pass, ...] = (
    fold_batch_norm,
    normalise_sign,
    remove_unused,
    binary_layers,
    depthwise_taps,
    remove_unused,
    channels_last,
    remove_unused,
    fold_affine,
    remove_unused,
)
