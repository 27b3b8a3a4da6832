"""The fast operators have the values and gradients of torch's, in either order in memory."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from bicompile.model.fast import (
    OneSlope,
    depthwise_conv,
    join,
    pad_frames,
    pointwise_conv,
    split,
)


def channels_first(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).requires_grad_()


def channels_last(batch: int, channels: int, frames: int) -> Tensor:
    rows = torch.randn(batch, frames, channels, dtype=torch.float64)
    return rows.transpose(1, 2).requires_grad_()


orders = pytest.mark.parametrize("make", [channels_first, channels_last])
Make = Callable[[int, int, int], Tensor]


def assert_same(mine: Tensor, its: Tensor, *inputs: Tensor) -> None:
    torch.testing.assert_close(mine, its)
    chosen = torch.randn_like(its)
    torch.testing.assert_close(
        torch.autograd.grad((mine * chosen).sum(), inputs),
        torch.autograd.grad((its * chosen).sum(), inputs),
    )


@orders
def test_one_slope_is_prelu(make: Make) -> None:
    torch.manual_seed(4)
    module = OneSlope().double()
    x = make(3, 6, 8)
    assert_same(module.train()(x), module.eval()(x), x, module.weight)


@orders
def test_pointwise_conv_is_a_convolution_of_one_tap(make: Make) -> None:
    torch.manual_seed(5)
    x, weight, bias = make(3, 6, 8), channels_first(4, 6, 1), channels_first(4)
    mine = pointwise_conv(x, weight, bias)
    assert_same(mine, functional.conv1d(x, weight, bias), x, weight, bias)


@orders
@pytest.mark.parametrize("taps", [1, 5])
def test_depthwise_conv_is_a_convolution_in_groups_of_one(make: Make, taps: int) -> None:
    torch.manual_seed(6)
    x, weight, bias = make(3, 6, 12), channels_first(6, 1, taps), channels_first(6)
    mine = depthwise_conv(x, weight, bias)
    assert_same(mine, functional.conv1d(x, weight, bias, groups=6), x, weight, bias)


@orders
def test_frames_are_padded_with_zeros(make: Make) -> None:
    x = make(3, 6, 8)
    assert_same(pad_frames(x, (2, 1)), functional.pad(x, (2, 1)), x)


@orders
@pytest.mark.parametrize("count", [1, 3])
def test_joined_batches_are_split_again(make: Make, count: int) -> None:
    batches = [make(2, 6, 8) for _ in range(count)]
    joined = join(batches)
    assert_same(joined, torch.cat(batches), *batches)
    for mine, its in zip(split(joined, count), batches, strict=True):
        assert torch.equal(mine, its)


def test_rows_stay_rows_in_memory() -> None:
    x = channels_last(3, 6, 8)
    weight, bias = channels_first(6, 6, 1), channels_first(6)
    results = (
        OneSlope().double()(x),
        pointwise_conv(x, weight, bias),
        depthwise_conv(x, channels_first(6, 1, 5), bias),
        pad_frames(x, (2, 2)),
        join([x, x]),
        *split(join([x, x]), 2),
    )
    for result in results:
        assert result.transpose(1, 2).is_contiguous()
