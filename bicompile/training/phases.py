"""What a run trains: float twins, and the binary student that the first of them teaches.

The student may go on with fewer bits, and then with fixed norms: phases of their own.
"""

from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicompile.model.binarizer import SingleSign
from bicompile.model.layers import Layer
from bicompile.model.network import BiFSMNv2, start_from
from bicompile.model.settle import settled
from bicompile.training import start
from bicompile.training.distillation import student_loss
from bicompile.training.recipe import PhaseRecipe, Recipe
from bicompile.training.run import Phase

TEACHER, STUDENT, NARROWED, SETTLED = "teacher", "student", "narrowed", "settled"
MOMENTUM = 0.9  # of SGD, as released


def names(plan: Recipe) -> list[str]:
    """The phases of a run, in order."""
    twins = [twin_name(plan, width) for width in plan.teacher.twins]
    return [TEACHER, *_students(plan), *twins]


def final_name(plan: Recipe) -> str:
    """The phase that ends with the student to use."""
    return _students(plan)[-1]


def _students(plan: Recipe) -> list[str]:
    more = {NARROWED: plan.narrowing, SETTLED: plan.settling}
    return [STUDENT, *(name for name, how in more.items() if how is not None)]


def twin_name(plan: Recipe, width: int) -> str:
    """The phase that trains the float twin of a width; the teacher is that of the smallest."""
    return TEACHER if width == min(plan.network.widths) else f"twin{width}"


def seed_of(seed: int, *where: str | int) -> int:
    """A seed for one place of a run, such as an epoch of a phase; others are unrelated to it."""
    digest = sha256(repr((seed, *where)).encode()).digest()
    return int.from_bytes(digest[:8], "little")


def twin_phase(plan: Recipe, width: int, device: str) -> Phase:
    """A float network of the depth of `width`, trained on its own."""
    name = twin_name(plan, width)
    torch.manual_seed(seed_of(plan.seed, name))
    network = BiFSMNv2(replace(plan.network, binary=False, widths=(width,))).to(device)

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(network(x), labels)

    groups = [{"params": list(network.parameters())}]
    rates = [plan.teacher.rate]
    return Phase(name, network, loss, _optimizer(plan.teacher, groups), rates, plan.teacher)


def student_phase(plan: Recipe, teacher: BiFSMNv2, clips: Tensor, device: str) -> Phase:
    """The binary network in all its widths; it starts from the teacher and learns from it.

    `clips` are features (N, mels, frames) to train on; some may say where thresholds start.
    """
    torch.manual_seed(seed_of(plan.seed, STUDENT))
    how, config = plan.student, plan.network
    if plan.narrowing is not None:
        config = replace(config, one_bit=())
    network = BiFSMNv2(config).to(device)
    start_from(network, teacher)
    if how.thresholds == "means":
        chosen = torch.randperm(len(clips))[: start.CLIPS].to(clips.device)
        start.start_at_means(network, clips[chosen][:, None])
    return _taught(STUDENT, plan, network, teacher, how)


def narrowed_phase(plan: Recipe, student: BiFSMNv2, teacher: BiFSMNv2) -> Phase:
    """The student with one bit before some layers, which learns on; `plan` has `narrowing`."""
    assert plan.narrowing is not None
    torch.manual_seed(seed_of(plan.seed, NARROWED))
    network = student.narrowed(plan.network.one_bit)
    return _taught(NARROWED, plan, network, teacher, plan.narrowing)


def settled_phase(plan: Recipe, student: BiFSMNv2, teacher: BiFSMNv2) -> Phase:
    """The student with fixed norms, which learns on from the teacher; `plan` has `settling`."""
    assert plan.settling is not None
    torch.manual_seed(seed_of(plan.seed, SETTLED))
    return _taught(SETTLED, plan, settled(student), teacher, plan.settling)


def _taught(
    name: str, plan: Recipe, network: BiFSMNv2, teacher: BiFSMNv2, how: PhaseRecipe
) -> Phase:
    student = plan.student

    def loss(x: Tensor, labels: Tensor) -> Tensor:
        return student_loss(
            network,
            teacher,
            x,
            labels,
            width_weights=student.width_weights,
            distillation=student.distillation,
            kind=student.distillation_kind,
        )

    slow = _slow_parameters(network)
    slow_ids = {id(parameter) for parameter in slow}
    rest = [parameter for parameter in network.parameters() if id(parameter) not in slow_ids]
    groups = [{"params": rest}, {"params": slow}]
    rates = [how.rate, how.rate * student.slow_rate]
    return Phase(name, network, loss, _optimizer(how, groups), rates, how)


def _slow_parameters(network: BiFSMNv2) -> list[nn.Parameter]:
    """Thresholds, shifts and alphas: a small step in them moves many bits at once."""
    slow: list[nn.Parameter] = []
    for module in network.modules():
        if isinstance(module, SingleSign):
            slow += module.parameters()
        elif isinstance(module, Layer) and module.binary:
            slow.append(module.weight_alpha)
    return slow


def _optimizer(how: PhaseRecipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """Made with rate 0: the loop sets the rate of every step."""
    decay = how.weight_decay
    if how.optimizer == "sgd":
        return torch.optim.SGD(groups, 0.0, momentum=MOMENTUM, weight_decay=decay, fused=True)
    return torch.optim.AdamW(groups, 0.0, weight_decay=decay, fused=True)
