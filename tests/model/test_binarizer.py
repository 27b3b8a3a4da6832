"""The binarizer's values and gradients, against its definition in single operators."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bicompile.model.binarizer import DualScale, SingleSign, WeightSign, sign

floats = st.floats(-2, 2, width=32)


@given(st.lists(floats, min_size=1, max_size=20))
def test_sign_is_a_comparison_with_zero(values: list[float]) -> None:
    x = torch.tensor(values)
    assert torch.equal(sign(x), torch.where(x >= 0, 1.0, -1.0))


def test_sign_of_both_zeros_is_plus_one() -> None:
    assert sign(torch.tensor([0.0, -0.0])).tolist() == [1.0, 1.0]


def test_sign_of_the_smallest_numbers_is_their_sign() -> None:
    assert sign(torch.tensor([1e-45, -1e-45])).tolist() == [1.0, -1.0]


def straight_through(x: Tensor, alpha: Tensor) -> Tensor:
    """`sign(alpha x)` whose gradient is that of `clip(alpha x)`, the textbook way."""
    clipped = torch.clamp(alpha * x, -1, 1)
    return clipped + (sign((alpha * x).detach()) - clipped.detach())


def plain_dual_scale() -> DualScale:
    return DualScale((6, 1), (1,), learned=False)


def textbook(module: DualScale, x: Tensor) -> Tensor:
    b1 = straight_through(x - module.threshold, module.alpha1)
    residual = x - b1 - module.shift1
    computed = residual.detach().abs().mean(module.scale_axes, keepdim=True)
    scale = computed if module.scale_axes else module.scale
    # The released backward leaves the scale out of the gradient of the second sign.
    b2 = straight_through(residual, module.alpha2)
    second = b2 + (scale.detach() * b2 - b2).detach() + (scale - scale.detach()) * b2.detach()
    return b1 + second - module.shift2


@pytest.mark.parametrize(
    ("shape", "channels", "axes"),
    [
        ((3, 8, 6), (6,), (2,)),
        ((3, 6, 8), (6, 1), (1,)),
        ((3, 6, 8), (6, 1), (2,)),
        ((3, 6, 4, 4), (6, 1, 1), (1, 2, 3)),
        ((3, 6, 8), (6, 1), ()),
    ],
)
@pytest.mark.parametrize("alphas", [(1.0, 1.0), (0.7, -1.3), (-0.4, 0.9)])
def test_dual_scale_has_the_gradients_of_its_definition(
    shape: tuple[int, ...],
    channels: tuple[int, ...],
    axes: tuple[int, ...],
    alphas: tuple[float, float],
) -> None:
    torch.manual_seed(1)
    module = DualScale(channels, axes, learned=True).double()
    with torch.no_grad():
        module.alpha1.fill_(alphas[0])
        module.alpha2.fill_(alphas[1])
        for shift in (module.threshold, module.shift1, module.shift2):
            shift.normal_(0, 0.3)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(shape, dtype=torch.float64)
    inputs = (x, *module.parameters())
    got = module(x)
    expected = textbook(module, x)
    torch.testing.assert_close(got, expected)
    for mine, its in zip(
        torch.autograd.grad((got * weights).sum(), inputs),
        torch.autograd.grad((expected * weights).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(mine, its)


@pytest.mark.parametrize("axes", [(1,), ()])
def test_dual_scale_is_the_same_in_training_and_evaluation(axes: tuple[int, ...]) -> None:
    torch.manual_seed(2)
    module = DualScale((6, 1), axes, learned=True)
    x = torch.randn(3, 6, 8)
    assert torch.equal(module.train()(x), module.eval()(x))


@given(st.floats(-1.5, 1.5), st.floats(0.05, 2))
def test_dual_scale_of_a_constant_has_two_levels(value: float, alpha: float) -> None:
    module = DualScale((1, 1), (1,), learned=True).eval()
    with torch.no_grad():
        for shift in (module.threshold, module.shift1, module.shift2):
            shift.zero_()
        module.alpha1.fill_(alpha)
    got = module(torch.full((1, 1, 4), value))
    # With one channel, b1 + |x - b1|·sign(x - b1) is x itself.
    torch.testing.assert_close(got, torch.full((1, 1, 4), value), atol=1e-6, rtol=0)


@pytest.mark.parametrize("alpha", [0.8, -1.2])
def test_single_sign_has_the_gradients_of_a_clipped_identity(alpha: float) -> None:
    torch.manual_seed(6)
    module = SingleSign((6, 1), learned=True).double()
    with torch.no_grad():
        module.alpha1.fill_(alpha)
        module.threshold.normal_(0, 0.3)
    x = torch.randn(3, 6, 8, dtype=torch.float64, requires_grad=True)
    chosen = torch.randn(3, 6, 8, dtype=torch.float64)
    got, expected = module(x), straight_through(x - module.threshold, module.alpha1)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad((got * chosen).sum(), (x, *module.parameters())),
        torch.autograd.grad((expected * chosen).sum(), (x, *module.parameters())),
    )
    assert torch.equal(got, module.eval()(x))


@pytest.mark.parametrize("module", [SingleSign((6, 1), learned=False), plain_dual_scale()])
def test_a_binarizer_that_is_not_learned_takes_the_sign_of_x(module: SingleSign) -> None:
    x = torch.randn(3, 6, 8)
    first = sign(x)
    if isinstance(module, DualScale):
        second = (x - first).abs().mean(1, keepdim=True) * sign(x - first)
        assert torch.equal(module(x), first + second)
    else:
        assert torch.equal(module(x), first)
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_weight_sign_has_the_gradients_of_a_clipped_identity() -> None:
    torch.manual_seed(3)
    weight = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    alpha = torch.tensor(-0.8, dtype=torch.float64, requires_grad=True)
    scale = torch.rand(4, 1, 1, dtype=torch.float64)
    chosen = torch.randn(4, 3, 5, dtype=torch.float64)
    got = WeightSign.apply(weight, alpha, scale)
    assert torch.equal(got, scale * sign(alpha * weight))
    of_weight, of_alpha = torch.autograd.grad((got * chosen).sum(), (weight, alpha))
    inside = (alpha * weight).abs() <= 1
    torch.testing.assert_close(of_weight, chosen * inside * alpha)
    torch.testing.assert_close(of_alpha, (chosen * inside * weight).sum())
