"""Settling: a student whose norms no batch changes any more computes what it did before."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bicompile.model import settle
from bicompile.model.config import NetworkConfig
from bicompile.model.network import BiFSMNv2
from bicompile.model.settle import LEVELS, on_steps, settled

SMALL = NetworkConfig(front=4, hidden=16, memory=8, blocks=2, widths=(0, 1), numbers="layer")


def features(seed: int) -> Tensor:
    return torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 3 + 1


def student(config: NetworkConfig = SMALL) -> BiFSMNv2:
    """A network whose norms have seen a batch."""
    torch.manual_seed(0)
    network = BiFSMNv2(config).train()
    network.run(network.embed(features(0)), config.widths)
    return network.eval()


@pytest.mark.parametrize("numbers", ["channel", "layer"])
def test_before_shifts_are_rounded_it_computes_the_same(
    numbers: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settle, "on_steps", lambda shifts: shifts)
    network = student(replace(SMALL, numbers=numbers))
    fixed = settled(network)
    for width in SMALL.widths:
        torch.testing.assert_close(fixed(features(1), width), network(features(1), width))


def test_shifts_are_rounded_and_take_in_the_biases_before_them() -> None:
    network, fixed = student(), settled(student())
    for width in SMALL.widths:
        factor, shift = network.blocks["1"].expand_norm.folded(f"_{width}")
        expected = on_steps(shift + factor * network.blocks["1"].expand.bias.detach())
        assert torch.equal(fixed.blocks["1"].expand_norm.get_buffer(f"shift_{width}"), expected)
    assert fixed.blocks["1"].expand.bias.eq(0).all()


def test_shifts_and_the_biases_they_took_in_are_not_learned() -> None:
    fixed = settled(student())
    learned = {name for name, value in fixed.named_parameters() if value.requires_grad}
    assert {name for name in learned if name.endswith("bias")} == {
        "front.conv1.bias", "front.norm1.bias", "linear.bias", "classifier.bias"
    }  # fmt: skip
    assert not {name for name in learned if "shift_" in name}


def test_training_leaves_nothing_to_follow_the_batches() -> None:
    fixed = settled(student())
    embedded = fixed.embed(features(2))
    for width in SMALL.widths:
        blocks = {name: value.clone() for name, value in fixed.blocks.state_dict().items()}
        trained = fixed.train().run(embedded, (width,))[width].logits
        assert all(torch.equal(fixed.blocks.state_dict()[name], blocks[name]) for name in blocks)
        torch.testing.assert_close(trained, fixed.eval().run(embedded, (width,))[width].logits)


def test_a_width_of_a_settled_network_is_that_network_at_this_width() -> None:
    fixed = settled(student())
    narrow = fixed.at_width(1).freeze()
    torch.testing.assert_close(narrow(features(1)), fixed(features(1), 1))


@pytest.mark.parametrize("config", [replace(SMALL, binary=False), replace(SMALL, settled=True)])
def test_what_cannot_be_settled_is_refused(config: NetworkConfig) -> None:
    with pytest.raises(ValueError, match="only a binary network that is not settled"):
        settled(BiFSMNv2(config).eval())


SIZES = st.floats(2.0**-20, 2.0**10, width=32)
NUMBERS = st.one_of(st.just(0.0), SIZES, SIZES.map(lambda size: -size))


@given(st.lists(NUMBERS, min_size=1, max_size=40))
def test_a_byte_says_which_step_a_shift_is(numbers: list[float]) -> None:
    exact = torch.tensor(numbers)
    found = on_steps(exact)
    span = max(float(exact.max() - exact.min()), float(exact.abs().max()) / LEVELS)
    assert ((found - exact).abs() <= span / (LEVELS - 2)).all()
    step = 2.0 ** math.ceil(math.log2(span / (LEVELS - 2))) if span else 1.0
    levels = found.double() / step
    assert torch.equal(levels, levels.round())
    assert levels.max() - levels.min() < LEVELS
