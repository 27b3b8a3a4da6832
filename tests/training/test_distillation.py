"""Frequency independent distillation, against what its definition promises."""

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2, Outcome
from bicompile.training.distillation import (
    Distillation,
    distance,
    distillation_loss,
    energy,
    haar,
    student_loss,
    target_of,
)

SMALL = NetworkConfig(front=2, hidden=8, memory=8, blocks=2, widths=(0, 1))


@given(st.integers(0, 1000))
def test_the_haar_parts_add_up_to_the_map(seed: int) -> None:
    x = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(seed))
    low, high = haar(x)
    torch.testing.assert_close(low + high, x)


def test_the_haar_parts_are_orthogonal() -> None:
    low, high = haar(torch.randn(2, 8, 8, dtype=torch.float64))
    assert abs((low * high).sum()) < 1e-12


def test_the_gradient_of_the_haar_parts_is_that_of_the_plain_formula() -> None:
    x = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    means = functional.avg_pool2d(x[:, None], 2)
    low = functional.interpolate(means, scale_factor=2.0)[:, 0]
    chosen = torch.randn(2, 2, 6, 4, dtype=torch.float64)
    mine, plain = torch.stack(haar(x)), torch.stack((low, x - low))
    torch.testing.assert_close(mine, plain)
    torch.testing.assert_close(
        torch.autograd.grad((mine * chosen).sum(), x),
        torch.autograd.grad((plain * chosen).sum(), x),
    )


def test_the_low_part_is_the_mean_of_patches() -> None:
    x = torch.tensor([[[1.0, 3.0], [5.0, 7.0]]])
    low, high = haar(x)
    assert torch.equal(low, torch.full((1, 2, 2), 4.0))
    assert torch.equal(high, x - 4)


@given(st.floats(0.1, 10), st.integers(0, 1000))
def test_the_distance_ignores_scale_and_sign(scale: float, seed: int) -> None:
    x = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(seed))
    assert distance(-scale * x, energy(x)) < 1e-5


@given(st.integers(0, 1000))
def test_the_distance_is_at_most_the_square_root_of_two(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = (torch.randn(2, 4, 4, generator=generator) for _ in range(2))
    assert 0 < distance(a, energy(b)) <= 2**0.5 + 1e-6


def test_the_gradient_of_the_distance_is_that_of_the_plain_formula() -> None:
    x = torch.randn(2, 6, 4, dtype=torch.float64, requires_grad=True)
    teacher = energy(torch.randn(2, 6, 4, dtype=torch.float64))
    plain = (teacher - x.square() / x.square().norm()).norm()
    torch.testing.assert_close(distance(x, teacher), plain)
    torch.testing.assert_close(
        torch.autograd.grad(3 * distance(x, teacher), x), torch.autograd.grad(3 * plain, x)
    )


def test_two_silent_maps_have_a_gradient_of_zero() -> None:
    x = torch.zeros(1, 2, 2, requires_grad=True)
    distance(x, torch.zeros(1, 2, 2)).backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(1, 2, 2))


@pytest.mark.parametrize("kind", ["plain", "frequency"])
def test_the_loss_of_equals_is_zero(kind: Distillation) -> None:
    outcome = Outcome(torch.randn(2, 3), {1: torch.randn(2, 4, 4)})
    assert distillation_loss(outcome, target_of(outcome, kind)) < 1e-6


def test_the_frequency_loss_compares_both_haar_parts_and_the_plain_one_the_whole() -> None:
    logits = torch.randn(2, 3)
    student, teacher = torch.randn(2, 4, 4), torch.randn(2, 4, 4)
    outcome, its = Outcome(logits, {1: student}), Outcome(logits, {1: teacher})
    (low, high), (its_low, its_high) = haar(student), haar(teacher)
    torch.testing.assert_close(
        distillation_loss(outcome, target_of(its, "frequency")),
        distance(low, energy(its_low)) + distance(high, energy(its_high)),
    )
    torch.testing.assert_close(
        distillation_loss(outcome, target_of(its, "plain")), distance(student, energy(teacher))
    )


@pytest.mark.parametrize("kind", ["plain", "frequency"])
def test_only_the_students_own_blocks_count(kind: Distillation) -> None:
    logits, block = torch.randn(2, 3), torch.randn(2, 4, 4)
    teacher = Outcome(logits, {0: torch.randn(2, 4, 4), 1: block})
    target = target_of(teacher, kind)
    assert distillation_loss(Outcome(logits, {1: block}), target) < 1e-6


@pytest.mark.parametrize("kind", get_args(Distillation))
def test_the_loss_of_a_step_is_the_weighted_sum_over_widths(kind: Distillation) -> None:
    torch.manual_seed(0)
    student = BiFSMNv2(SMALL)
    teacher = BiFSMNv2(NetworkConfig(**{**SMALL.to_json(), "binary": False, "widths": (0,)})).eval()
    x, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])

    def loss(*weights: float) -> torch.Tensor:
        return student_loss(
            student, teacher, x, labels, width_weights=weights, distillation=0.5, kind=kind
        )

    both, first, second = loss(1.0, 0.5), loss(1.0, 0.0), loss(0.0, 1.0)
    torch.testing.assert_close(both, first + 0.5 * second)


def test_without_distillation_the_teacher_does_not_matter() -> None:
    student = BiFSMNv2(SMALL).eval()
    x, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    one, other = (
        student_loss(
            student,
            BiFSMNv2(SMALL).eval(),
            x,
            labels,
            width_weights=(1.0, 1.0),
            distillation=1.0,
            kind="none",
        )
        for _ in range(2)
    )
    assert torch.equal(one, other)


def test_the_teacher_gets_no_gradient() -> None:
    student = BiFSMNv2(SMALL)
    teacher = BiFSMNv2(NetworkConfig(**{**SMALL.to_json(), "binary": False, "widths": (0,)})).eval()
    x, labels = torch.randn(4, 1, 32, 32), torch.tensor([0, 1, 2, 3])
    student_loss(
        student, teacher, x, labels, width_weights=(1.0, 1.0), distillation=0.01, kind="frequency"
    ).backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
