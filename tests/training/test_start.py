import pytest
import torch
from torch import Tensor

from bicompile.model.binarizer import DualScale, SingleSign
from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2
from bicompile.training.start import start_at_means

CLIPS = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 3 + 1


def network(**changes: str) -> BiFSMNv2:
    torch.manual_seed(0)
    sizes = {"front": 4, "hidden": 16, "memory": 8, "blocks": 2, "widths": (0, 1)}
    return BiFSMNv2(NetworkConfig(**sizes, **changes))


def inputs_of(model: BiFSMNv2) -> dict[str, Tensor]:
    """What every binarizer sees in training, by its name."""
    seen: dict[str, Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, SingleSign):
            module.register_forward_pre_hook(
                lambda _, inputs, name=name: seen.update({name: inputs[0].detach()})
            )
    model.train().run(model.embed(CLIPS), model.config.widths)
    return seen


@pytest.mark.parametrize("activation", ["dual", "single", "learned-scale"])
def test_thresholds_are_the_means_of_what_they_are_subtracted_from(activation: str) -> None:
    model = network(activation=activation)
    start_at_means(model, CLIPS)
    modules = dict(model.named_modules())
    for name, x in inputs_of(model).items():
        binarizer = modules[name]
        assert isinstance(binarizer, SingleSign)
        channels = 2 if name == "linear.activation" else 1
        means = x.transpose(channels, -1).flatten(0, -2).mean(0)
        torch.testing.assert_close(binarizer.threshold.flatten(), means, rtol=1e-4, atol=1e-5)
        if isinstance(binarizer, DualScale):
            rest = x - torch.where(x >= binarizer.threshold, 1.0, -1.0)
            means = rest.transpose(channels, -1).flatten(0, -2).mean(0)
            torch.testing.assert_close(binarizer.shift1.flatten(), means, rtol=1e-4, atol=1e-5)


def test_nothing_else_changes() -> None:
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    start_at_means(model, CLIPS)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert {name.rpartition(".")[2] for name in changed} == {"threshold", "shift1"}


def test_thresholds_that_are_not_learned_stay_zero() -> None:
    model = network(binarizer="plain")
    start_at_means(model, CLIPS)
    assert not any(
        module.threshold.any() for module in model.modules() if isinstance(module, SingleSign)
    )
