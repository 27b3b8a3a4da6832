"""What the nests of binary kernels mean, in numpy.

Bits and integers are exact. The floats of an epilogue are not: a multiplication and an addition may
be rounded once or twice. What comes of that is bounded here, and is far below what one bit counted
wrong would make. The mean of a dual-scale kernel is taken as it is, since its sum may be in any
order.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from tvm import tirx

from bicompile.dual_workloads import PADS, PLANES, PRODUCTS, RESIDUAL, THRESHOLDS
from bicompile.sign_workloads import LIMITS
from bicompile.workloads import GREATER, GROUPS, IMAGE, KERNEL, KIND, OUTPUT, WINDOW

Float = np.ndarray | np.float32

ROUNDINGS = 8 * float(np.finfo(np.float32).eps)
"""How far an epilogue may lie from its value, relative to the sum of the sizes of its terms."""


def meaning(
    kernel: tirx.PrimFunc, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> np.ndarray | None:
    """What a kernel computes from its inputs, in the shape of its result; None for a float one.

    `results` are what it gave: the mean that it went on with is taken from there.
    """
    found = _value_and_slack(kernel, operands, results)
    return None if found is None else found[0]


def wrong(
    kernel: tirx.PrimFunc, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> int | None:
    """How many elements of its first result a kernel got wrong; None for a float kernel."""
    found = _value_and_slack(kernel, operands, results)
    if found is None:
        return None
    expected, slack = found
    given = results[0].reshape(expected.shape)
    with np.errstate(invalid="ignore"):
        near = np.abs(given.astype(np.float64) - expected) <= slack
    alike = near | (given == expected) | (np.isnan(given) & np.isnan(expected))
    return int((~alike).sum())


def _value_and_slack(
    kernel: tirx.PrimFunc, operands: Sequence[np.ndarray], results: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray] | None:
    kind = str(kernel.attrs.get(KIND, ""))
    if kind not in _MEANINGS:
        return None
    shaped = [operand.reshape(_shape(kernel, index)) for index, operand in enumerate(operands)]
    if kind == "dual_depthwise":
        shaped.append(results[1].reshape(-1))
    found = _MEANINGS[kind](kernel, *shaped)
    return found if isinstance(found, tuple) else (found, np.zeros(()))


def _shape(kernel: tirx.PrimFunc, index: int) -> tuple[int, ...]:
    return tuple(int(dim) for dim in kernel.params[index].ty.shape)


def _threshold(kernel: tirx.PrimFunc, x: np.ndarray, theta: np.ndarray) -> np.ndarray:
    holds = x >= theta if bool(kernel.attrs[GREATER]) else x <= theta
    groups = int(kernel.attrs[GROUPS])
    packed = np.packbits(holds.reshape(len(x), groups, -1), axis=-1, bitorder="little")
    return packed.reshape(len(x), -1)


def _differing(rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Popcounts of every row with every other: (…, M, B) and (…, N, B) bits → (…, M, N)."""
    differing: np.ndarray = rows[..., :, None, :] ^ weights[..., None, :, :]
    counted: np.ndarray = np.bitwise_count(differing).sum(axis=-1, dtype=np.int64)
    return counted


def _popcount_gemm(_kernel: tirx.PrimFunc, rows: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return _differing(rows, weights)


def _grouped_popcount_gemm(
    kernel: tirx.PrimFunc, rows: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    m, outputs = _shape(kernel, 2)
    groups = len(rows) // m
    counted = _differing(rows.reshape(groups, m, -1), weights.reshape(groups, -1, rows.shape[1]))
    return counted.transpose(1, 0, 2).reshape(m, outputs)


def _depthwise(kernel: tirx.PrimFunc, bits: np.ndarray, taps: np.ndarray) -> np.ndarray:
    sh, sw, top, left, dh, dw = (int(number) for number in kernel.attrs[WINDOW])
    _, height, width, channels = bits.shape
    outputs = taps.shape[2]
    signs = np.repeat(bits.astype(np.int64) * 2 - 1, outputs // channels, axis=-1)
    sums = np.zeros(_shape(kernel, 2), np.int64)
    for y, x, i, j in np.ndindex(*sums.shape[1:3], *taps.shape[:2]):
        row, column = y * sh + i * dh - top, x * sw + j * dw - left
        if 0 <= row < height and 0 <= column < width:
            sums[:, y, x] += signs[:, row, column] * (taps[i, j].astype(np.int64) * 2 - 1)
    return sums


def _dual_scale(
    kernel: tirx.PrimFunc, x: np.ndarray, theta: np.ndarray, _shift: np.ndarray, theta2: np.ndarray
) -> np.ndarray:
    groups = int(kernel.attrs[GROUPS])
    planes, rest = [], x
    for threshold, greater in zip((theta, theta2), kernel.attrs[GREATER], strict=True):
        holds = rest >= threshold if greater else rest <= threshold
        packed = np.packbits(holds.reshape(len(x), groups, -1), axis=-1, bitorder="little")
        planes.append(packed.reshape(len(x), -1))
        rest = rest - np.where(holds, np.float32(1), np.float32(-1))
    return np.concatenate(planes)


def _dual_depthwise(
    kernel: tirx.PrimFunc,
    x: np.ndarray,
    thresholds: np.ndarray,
    multiplier: np.ndarray,
    shift: np.ndarray,
    taps: np.ndarray,
    slope: np.ndarray,
    scale: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    of = dict(zip(THRESHOLDS, thresholds, strict=True))
    framed = np.pad(x, [[int(pad) for pad in kernel.attrs[PADS]], [0, 0]])
    weights = np.where(taps > 0, np.float32(1), np.float32(-1))
    rest, dots = framed, []
    for name, greater in zip(("theta", "theta2"), kernel.attrs[GREATER], strict=True):
        holds = rest >= of[name] if greater else rest <= of[name]
        sign = np.where(holds, np.float32(1), np.float32(-1))
        windows = sliding_window_view(sign, len(taps), axis=0)
        dots.append((windows * weights.T).sum(axis=-1))
        rest = rest - sign
    residual = x if kernel.attrs[RESIDUAL] else np.float32(0)
    return _epilogue(dots, scale, multiplier, shift, slope, residual)


def _popcount_epilogue(
    kernel: tirx.PrimFunc, *operands: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    names = [parameter.name for parameter in kernel.params]
    given = dict(zip(names, operands, strict=False))
    counts = _differing(*operands[:2])
    products = given.get("products", kernel.attrs.get(PRODUCTS))
    planes = np.split(counts, int(kernel.attrs[PLANES]))
    dots = [(np.asarray(products, np.int64) - 2 * plane).astype(np.float32) for plane in planes]
    return _epilogue(
        dots,
        given["scale"][:, None] if len(dots) == 2 else np.float32(0),
        given.get("multiplier", np.float32(1)),
        given.get("shift", np.float32(0)),
        given.get("slope", np.float32(1)),
        given.get("residual", np.float32(0)),
    )


def _popcount_threshold(
    _kernel: tirx.PrimFunc, rows: np.ndarray, weights: np.ndarray, limits: np.ndarray
) -> np.ndarray:
    return np.packbits(_differing(rows, weights) <= limits, axis=-1, bitorder="little")


def patches_of(kernel: tirx.PrimFunc, bits: np.ndarray) -> np.ndarray:
    """What every position of a popcount_conv sees: bits of its image → (M, kh·kw·B) bits."""
    (height, width, pixel), (kh, kw) = (map(int, kernel.attrs[IMAGE][1:]), kernel.attrs[KERNEL])
    sh, sw, top, left, dh, dw = (int(number) for number in kernel.attrs[WINDOW])
    out_height, out_width = (int(size) for size in kernel.attrs[OUTPUT])
    image = bits.reshape(-1, height, width, pixel)
    rows = np.zeros((len(image), out_height, out_width, int(kh), int(kw), pixel), np.uint8)
    for y, x, i, j in np.ndindex(*rows.shape[1:5]):
        row, column = y * sh + i * dh - top, x * sw + j * dw - left
        if 0 <= row < height and 0 <= column < width:
            rows[:, y, x, i, j] = image[:, row, column]
    return rows.reshape(len(image) * out_height * out_width, -1)


def _popcount_conv(
    kernel: tirx.PrimFunc, bits: np.ndarray, weights: np.ndarray, *operands: np.ndarray
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    rows = patches_of(kernel, bits)
    weights = weights[:, : rows.shape[1]]
    if PLANES in kernel.attrs:
        return _popcount_epilogue(kernel, rows, weights, *operands)
    if LIMITS in kernel.attrs:
        return _popcount_threshold(kernel, rows, weights, *operands)
    return _differing(rows, weights)


def _epilogue(
    dots: Sequence[np.ndarray],
    scale: Float,
    multiplier: Float,
    shift: Float,
    slope: Float,
    residual: Float,
) -> tuple[np.ndarray, np.ndarray]:
    """PReLU((Σ dots)·multiplier + shift) + residual, the second of the dots times `scale`."""
    with np.errstate(all="ignore"):
        total = dots[0] + dots[1] * scale if len(dots) == 2 else dots[0]
        total = total * multiplier + shift
        value = np.maximum(total, total * slope) + residual
        size = abs(dots[0]) + (abs(dots[1] * scale) if len(dots) == 2 else 0)
        steepest = np.maximum(np.ones((), np.float32), np.abs(np.asarray(slope)))
        size = (size * abs(multiplier) + abs(shift)) * steepest + abs(residual)
        return np.asarray(value), np.asarray(size * ROUNDINGS)


_MEANINGS: Mapping[str, Callable[..., np.ndarray | tuple[np.ndarray, np.ndarray]]] = {
    "depthwise": _depthwise,
    "dual_depthwise": _dual_depthwise,
    "dual_scale": _dual_scale,
    "grouped_popcount_gemm": _grouped_popcount_gemm,
    "popcount_conv": _popcount_conv,
    "popcount_epilogue": _popcount_epilogue,
    "popcount_gemm": _popcount_gemm,
    "popcount_threshold": _popcount_threshold,
    "threshold": _threshold,
}
