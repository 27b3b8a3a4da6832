"""Graph passes: one file a rewrite, each with its law. `PASSES` is the whole list, in order."""

from collections.abc import Callable

import onnx_ir as ir

from bicompile.passes.binary_layers import binary_layers
from bicompile.passes.channels_last import channels_last
from bicompile.passes.depthwise_taps import depthwise_taps
from bicompile.passes.dual_scale import dual_scale
from bicompile.passes.epilogue import epilogue
from bicompile.passes.float_layers import float_layers
from bicompile.passes.fold_affine import fold_affine
from bicompile.passes.fold_batch_norm import fold_batch_norm
from bicompile.passes.fold_constants import fold_constants
from bicompile.passes.fold_scale import fold_scale
from bicompile.passes.integer_threshold import integer_threshold
from bicompile.passes.move_signs import move_signs
from bicompile.passes.normalise_sign import normalise_sign
from bicompile.passes.remove_unused import remove_unused
from bicompile.passes.share_constants import share_constants
from bicompile.passes.sign_of_zero import sign_of_zero
from bicompile.passes.straight_through import straight_through

Pass = Callable[[ir.Model], None]

PASSES: tuple[Pass, ...] = (
    straight_through,
    fold_constants,
    fold_batch_norm,
    normalise_sign,
    sign_of_zero,
    move_signs,
    remove_unused,
    binary_layers,
    float_layers,
    depthwise_taps,
    remove_unused,
    channels_last,
    remove_unused,
    fold_affine,
    fold_scale,
    dual_scale,
    integer_threshold,
    epilogue,
    remove_unused,
    share_constants,
)
