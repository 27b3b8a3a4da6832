"""Frequency independent distillation (FID) of BiFSMNv2 (TNNLS 2023).

Block outputs of student and teacher are compared apart in the low and the high part of a
one-level Haar transform, so that the loud low part does not drown the rest.
"""

import torch
from torch import Tensor
from torch.nn import functional

from bicompile.model.network import BiFSMNv2, Outcome


def haar(x: Tensor) -> tuple[Tensor, Tensor]:
    """Split (N, channels, frames) into its low and high part, which add up to it.

    The low part is the mean over 2 x 2 patches; both sides must be even.
    """
    pooled = functional.avg_pool2d(x[:, None], 2)
    low = functional.interpolate(pooled, scale_factor=2.0)[:, 0]
    return low, x - low


def distance(student: Tensor, teacher: Tensor) -> Tensor:
    """`‖t²/‖t²‖ − s²/‖s²‖‖` over all elements: 0 for equal shapes of energy, at most √2."""
    s, t = student.square(), teacher.square()
    tiny = 1e-12  # two silent maps are alike, not undefined
    difference = t / (_norm(t) + tiny) - s / (_norm(s) + tiny)
    return _norm(difference)


def _norm(x: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(x)
    return norm


def distillation_loss(student: Outcome, teacher: Outcome) -> Tensor:
    """Sum of `distance` over the student's blocks and both Haar parts, plus the MSE of logits."""
    loss = functional.mse_loss(student.logits, teacher.logits)
    for index, block in student.blocks.items():
        for mine, its in zip(haar(block), haar(teacher.blocks[index]), strict=True):
            loss = loss + distance(mine, its)
    return loss


def student_loss(
    student: BiFSMNv2,
    teacher: BiFSMNv2,
    x: Tensor,
    labels: Tensor,
    *,
    width_weights: tuple[float, ...],
    distillation: float,
) -> Tensor:
    """Loss of all widths in one step: cross entropy + `distillation` · the distillation loss.

    `x` is (N, 1, mels, frames), `labels` (N,) int64. The front of the student runs once.
    """
    expected = None
    if distillation > 0:
        with torch.no_grad():
            expected = teacher.run(teacher.embed(x), teacher.config.widths[0])
    embedded = student.embed(x)
    total = torch.zeros(())
    for width, weight in zip(student.config.widths, width_weights, strict=True):
        outcome = student.run(embedded, width)
        loss = functional.cross_entropy(outcome.logits, labels)
        if expected is not None:
            loss = loss + distillation * distillation_loss(outcome, expected)
        total = total + weight * loss
    return total
