"""What the constants in a layer's input add to its sums: c·W for every output position."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bicompile.passes.graph import shape_of
from bicompile.passes.layer import Layer, Window

Doubles = NDArray[np.float64]


def constant_part(layer: Layer, constants: Sequence[np.ndarray]) -> Doubles:
    """(Σ constants)·W, channels-last, in float64: broadcasts against the layer's result.

    A constant broadcasts against the layer's input. One number per output where the sum is the
    same at every position.
    """
    rank = len(layer.perm)
    total = sum((c.astype(np.float64) for c in constants), np.zeros((1,) * rank))
    c = total.transpose(layer.perm)
    if layer.window is None:
        c = np.broadcast_to(c, (*c.shape[:-1], layer.channels))
        return c @ layer.weights.real.reshape(layer.outputs, layer.channels).T
    window, channels = layer.window, layer.channels * layer.window.group
    if math.prod(c.shape[:-1]) == 1 and not any(window.pads):
        positions = _reach(layer, window)
    else:
        positions = [shape_of(layer.x)[axis] for axis in layer.perm[1:-1]]
    return _convolve(np.broadcast_to(c, (len(c), *positions, channels)), layer, window)


def _reach(layer: Layer, window: Window) -> list[int]:
    """How many positions one window spans along every axis."""
    return [(k - 1) * d + 1 for k, d in zip(layer.kernel, window.dilations, strict=True)]


def _convolve(c: Doubles, layer: Layer, window: Window) -> Doubles:
    """Plain convolution with zero padding: (N, *positions, G·C) → (N, *positions', O)."""
    spatial = len(window.strides)
    amounts = zip(window.pads[:spatial], window.pads[spatial:], strict=True)
    padded = np.pad(c, ((0, 0), *amounts, (0, 0)))
    grouped = padded.reshape(*padded.shape[:-1], window.group, layer.channels)
    axes = tuple(range(1, 1 + spatial))
    seen = np.lib.stride_tricks.sliding_window_view(grouped, _reach(layer, window), axis=axes)
    strided = [slice(None, None, stride) for stride in window.strides]
    dilated = [slice(None, None, dilation) for dilation in window.dilations]
    seen = seen[:, *strided, :, :, *dilated]
    weights = layer.weights.real
    weights = weights.reshape(window.group, -1, *weights.shape[1:])
    at, taps = "yx"[:spatial], "ij"[:spatial]
    product: Doubles = np.einsum(f"n{at}gc{taps},go{taps}c->n{at}go", seen, weights, optimize=True)
    return product.reshape(*product.shape[:-2], layer.outputs)
