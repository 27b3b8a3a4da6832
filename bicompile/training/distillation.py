"""Frequency independent distillation (FID) of BiFSMNv2 (TNNLS 2023).

Block outputs of student and teacher are compared apart in the low and the high part of a
one-level Haar transform, so that the loud low part does not drown the rest.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from bicompile.model.network import BiFSMNv2, Outcome

Distillation = Literal["none", "plain", "frequency"]
"""What a student is compared with: labels alone, the teacher's maps, or both Haar parts of them."""

TINY = 1e-12  # two silent maps are alike, not undefined


class HaarParts(torch.autograd.Function):
    """See `haar`. The low part is an orthogonal projection, so the backward is made of it too."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both parts of x."""
        low = patch_means(x)
        return low, x - low

    @staticmethod
    def backward(ctx: Any, of_low: Tensor, of_high: Tensor) -> Tensor:
        """Return the gradient of x."""
        return patch_means(of_low - of_high).add_(of_high)


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split (N, channels, frames) into its low and high part, which add up to it.

    The low part is the mean over 2 x 2 patches; both sides must be even.
    """
    parts: tuple[Tensor, Tensor] = HaarParts.apply(x)  # type: ignore[no-untyped-call]
    return parts


def patch_means(x: Tensor) -> Tensor:
    """Return (N, channels, frames) in which every 2 x 2 patch of `x` has become its mean."""
    rows = x.transpose(1, 2)  # in training, the order in memory
    pairs = rows[:, ::2] + rows[:, 1::2]
    means = (pairs[..., ::2] + pairs[..., 1::2]).mul_(0.25)
    pairs = functional.interpolate(means, scale_factor=2.0)[:, :, None]
    return pairs.expand(-1, -1, 2, -1).flatten(1, 2).transpose(1, 2)


def energy(x: Tensor) -> Tensor:
    """`x²/‖x²‖`, the shape of a map without its scale and signs; its norm is 1, or 0 of zeros."""
    squares = x.square()
    return squares.div_(_norm(squares) + TINY)


class Distance(torch.autograd.Function):
    """See `distance`; the backward is written out, because autograd's takes twice the passes."""

    @staticmethod
    def forward(ctx: Any, student: Tensor, teacher_energy: Tensor) -> Tensor:
        """Return a scalar."""
        squares = student.square()
        size = _norm(squares) + TINY
        mine = squares.div_(size)
        difference = teacher_energy - mine
        distance = _norm(difference)
        ctx.save_for_backward(student, mine, difference, size, distance)
        return distance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """Return the gradient of the student's map."""
        student, mine, difference, size, distance = ctx.saved_tensors
        along = (difference * mine).sum()  # what a change of the norm takes out again
        scale = -2 * gradient / (size * (distance + TINY))
        return (mine * -along).add_(difference).mul_(student).mul_(scale), None


def distance(student: Tensor, teacher_energy: Tensor) -> Tensor:
    """`‖t²/‖t²‖ − s²/‖s²‖‖` over all elements: 0 for equal shapes of energy, at most √2."""
    result: Tensor = Distance.apply(student, teacher_energy)  # type: ignore[no-untyped-call]
    return result


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm


class Target(NamedTuple):
    """What the teacher made of a batch, ready for comparison."""

    kind: Distillation
    logits: Tensor
    energies: dict[int, list[Tensor]]
    """For every block, `energy` of each of its parts."""


def target_of(teacher: Outcome, kind: Distillation) -> Target:
    """Prepare what every width is compared with."""
    energies = {}
    for index, block in teacher.blocks.items():
        ordered = block.transpose(1, 2).contiguous().transpose(1, 2)  # in memory as the student's
        energies[index] = [energy(part) for part in parts(ordered, kind)]
    return Target(kind, teacher.logits, energies)


def parts(block: Tensor, kind: Distillation) -> tuple[Tensor, ...]:
    """What is compared apart: the Haar parts with the kind `frequency`, the whole with `plain`."""
    return haar(block) if kind == "frequency" else (block,)


def distillation_loss(student: Outcome, target: Target) -> Tensor:
    """Sum of `distance` over the parts of all the student's blocks, plus the MSE of logits."""
    loss = functional.mse_loss(student.logits, target.logits)
    for index, block in student.blocks.items():
        for part, its in zip(parts(block, target.kind), target.energies[index], strict=True):
            loss = loss + distance(part, its)
    return loss


def student_loss(
    student: BiFSMNv2,
    teacher: BiFSMNv2,
    x: Tensor,
    labels: Tensor,
    *,
    width_weights: tuple[float, ...],
    distillation: float,
    kind: Distillation,
) -> Tensor:
    """Loss of all widths in one step: cross entropy + `distillation` · the distillation loss.

    `x` is (N, 1, mels, frames), `labels` (N,) int64. The front of the student runs once, and the
    teacher not at all where the kind is `none`.
    """
    if kind != "none":
        with torch.no_grad():
            width = teacher.config.widths[0]
            target = target_of(teacher.run(teacher.embed(x), (width,))[width], kind)
    outcomes = student.run(student.embed(x), student.config.widths)
    total = torch.zeros((), device=x.device)
    for outcome, weight in zip(outcomes.values(), width_weights, strict=True):
        loss = functional.cross_entropy(outcome.logits, labels)
        if kind != "none":
            loss = loss + distillation * distillation_loss(outcome, target)
        total = total + weight * loss
    return total
