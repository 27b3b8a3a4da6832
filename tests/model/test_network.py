"""The network: its shapes, its widths, and what freezing keeps."""

import json
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import nn

from bicompile.model.binarizer import DualScale
from bicompile.model.config import Activation, NetworkConfig
from bicompile.model.layers import Convolution, Layer, Linear, Memory, Pointwise
from bicompile.model.network import BiFSMNv2, start_from

SMALL = NetworkConfig(front=4, hidden=24, memory=16)


def lively(config: NetworkConfig, seed: int = 0) -> BiFSMNv2:
    """A network whose norms and thresholds have seen data, and with some negative alphas."""
    torch.manual_seed(seed)
    network = BiFSMNv2(config).train()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if "shift" in name or "threshold" in name:
                parameter.normal_(0, 0.2)
            elif "alpha" in name:
                parameter.copy_(parameter * torch.empty(()).uniform_(-1.5, 1.5))
        for _ in range(3):
            for width in config.widths:
                network(features(16), width)
    return network.eval()


def features(count: int) -> torch.Tensor:
    return 20 * torch.randn(count, 1, 32, 32) - 30


@pytest.mark.parametrize(
    ("width", "blocks"),
    [(0, (0, 1, 2, 3, 4, 5, 6, 7)), (1, (1, 3, 5, 7)), (2, (3, 7)), (3, (7,))],
)
def test_a_width_runs_every_so_many_blocks_ending_with_the_last(
    width: int, blocks: tuple[int, ...]
) -> None:
    assert NetworkConfig().blocks_of(width) == blocks


@pytest.mark.parametrize("binary", [True, False])
def test_every_width_gives_a_logit_per_label(binary: bool) -> None:
    network = BiFSMNv2(NetworkConfig(binary=binary)).eval()
    for width in (0, 1, 2):
        assert network(features(2), width).shape == (2, 12)


def test_all_but_the_first_and_last_layer_are_binary() -> None:
    network = BiFSMNv2(NetworkConfig())
    layers = [module for module in network.modules() if isinstance(module, Layer)]
    assert len(layers) == 2 + 3 * 8
    assert all(layer.binary for layer in layers)
    assert sum(layer.weight.numel() for layer in layers) == 574_976
    plain = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert plain == [network.front.conv1, network.classifier]


def test_the_float_twin_has_no_binarizer() -> None:
    names = BiFSMNv2(NetworkConfig(binary=False)).state_dict()
    assert not [name for name in names if "alpha" in name or "threshold" in name]


def test_a_width_shares_all_but_its_last_norms() -> None:
    network = BiFSMNv2(NetworkConfig())
    assert set(network.blocks["7"].project_norm) == {"0", "1", "2"}
    assert set(network.blocks["1"].project_norm) == {"0", "1"}
    assert set(network.blocks["0"].project_norm) == {"0"}


@pytest.mark.parametrize("width", [0, 1, 2])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_width_alone_gives_the_logits_of_the_whole(width: int, frozen: bool) -> None:
    network = lively(SMALL)
    x = features(8)
    expected = network(x, width)
    if frozen:
        network.freeze()
    narrow = network.at_width(width)
    assert narrow.frozen == frozen
    assert torch.equal(narrow(x), expected)
    names = {name.split(".")[1] for name in narrow.state_dict() if name.startswith("blocks.")}
    assert names == {str(index) for index in SMALL.blocks_of(width)}


def test_training_at_a_width_changes_the_statistics_of_that_width_alone() -> None:
    network = lively(SMALL).train()
    before = {name: value.clone() for name, value in network.blocks.named_buffers()}
    network(features(4), 1)
    changed = {
        name for name, value in network.blocks.named_buffers() if (value != before[name]).any()
    }
    kinds = ("running_mean", "running_var", "num_batches_tracked")
    assert changed == {
        f"{block}.{norm}"
        for block in SMALL.blocks_of(1)
        for kind in kinds
        for norm in (
            f"memory_norm.{kind}_1",
            f"expand_norm.{kind}_1",
            f"project_norm.1.{kind}",
        )
    }


@pytest.mark.parametrize("training", [True, False])
def test_widths_that_run_together_give_what_each_gives_alone(training: bool) -> None:
    network = lively(SMALL).train(training).double()  # no sum is close enough to a threshold
    embedded = network.embed(features(4).double())
    together = network.run(embedded, SMALL.widths)
    for width in SMALL.widths:
        alone = network.run(embedded, (width,))[width]
        torch.testing.assert_close(together[width].logits, alone.logits)
        assert list(alone.blocks) == list(SMALL.blocks_of(width))
        torch.testing.assert_close(together[width].blocks, alone.blocks)


def test_a_width_that_the_network_lacks_is_refused() -> None:
    with pytest.raises(ValueError, match="widths"):
        BiFSMNv2(SMALL).at_width(3)


@pytest.mark.parametrize("width", [0, 1, 2])
def test_frozen_gives_the_logits_of_unfrozen(width: int) -> None:
    network = lively(NetworkConfig(), seed=width)
    x = features(32)
    expected = network(x, width)
    got = network.freeze()(x, width)
    assert (got - expected).abs().max() < 1e-4
    assert torch.equal(got.argmax(1), expected.argmax(1))


def test_frozen_uses_signs_a_scale_and_no_autograd_function() -> None:
    network = lively(SMALL).freeze()
    for module in network.modules():
        if isinstance(module, Layer):
            assert set(module.weight_sign.unique().tolist()) <= {-1.0, 1.0}
            assert module.sigma.numel() == module.weight.shape[0]
    x = features(2).requires_grad_()
    seen = set()
    pending = [network(x).grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            pending += [following for following, _ in node.next_functions]
    assert not [node for node in seen if "Sign" in type(node).__name__]


def test_a_frozen_network_keeps_its_state_dict() -> None:
    network = lively(SMALL)
    before = set(network.state_dict())
    assert set(network.freeze().state_dict()) == before


def test_sigma_is_the_mean_size_of_a_channels_weights() -> None:
    layer = Pointwise(6, 4, SMALL)
    layer.freeze()
    expected = layer.weight.abs().mean((1, 2)).view(4, 1)
    torch.testing.assert_close(layer.sigma, expected)


def test_the_memory_pads_before_it_binarizes() -> None:
    layer = Memory(3, SMALL).eval()
    x = torch.randn(1, 3, 8)
    padded = layer.activation(nn.functional.pad(x, (2, 2)))
    assert padded.shape == (1, 3, 12)
    assert (padded != 0).all()
    layer.freeze()
    weight = layer.weight_sign * layer.sigma[..., None]
    expected = nn.functional.conv1d(padded, weight, layer.bias, groups=3)
    torch.testing.assert_close(layer(x), expected)


def test_the_convolution_pads_with_zeros_after_it_binarizes() -> None:
    layer = Convolution(2, 3, SMALL).eval()
    layer.freeze()
    x = torch.randn(1, 2, 8, 8)
    weight = layer.weight_sign * layer.sigma[..., None]
    expected = nn.functional.conv2d(layer.activation(x), weight, layer.bias, 2, 2)
    torch.testing.assert_close(layer(x), expected)


def test_a_convolution_of_one_bit_pads_with_minus_one_after_it_binarizes() -> None:
    layer = Convolution(2, 3, replace(SMALL, activation="single")).eval()
    layer.freeze()
    x = torch.randn(1, 2, 8, 8)
    padded = nn.functional.pad(layer.activation(x), (2, 2, 2, 2), value=-1.0)
    weight = layer.weight_sign * layer.sigma[..., None]
    torch.testing.assert_close(layer(x), nn.functional.conv2d(padded, weight, layer.bias, 2))


def test_layers_that_one_bit_names_see_one_bit_and_the_others_two() -> None:
    network = BiFSMNv2(replace(SMALL, one_bit=("linear", "blocks.*.expand", "blocks.7.project")))
    layers = {n: m for n, m in network.named_modules() if isinstance(m, Layer)}
    one_bit = {n for n, layer in layers.items() if not isinstance(layer.activation, DualScale)}
    expands = {f"blocks.{index}.expand" for index in range(8)}
    assert one_bit == {"linear", "blocks.7.project", *expands}


def test_a_narrowed_network_keeps_all_it_has_a_place_for() -> None:
    network = lively(SMALL)
    narrow = network.narrowed(("front.conv2", "linear"))
    assert narrow.config == replace(SMALL, one_bit=("front.conv2", "linear"))
    state = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in narrow.state_dict().items())
    gone = {name.rpartition(".")[2] for name in state.keys() - narrow.state_dict().keys()}
    assert gone == {"shift1", "shift2", "alpha2"}


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(
    ("kind", "sizes", "shape"),
    [
        (Linear, (16, 8), (4, 8, 16)),
        (Pointwise, (16, 8), (4, 16, 8)),
        (Memory, (16,), (4, 16, 8)),
        (Convolution, (2, 3), (4, 2, 8, 8)),
    ],
)
def test_training_and_evaluation_agree_up_to_rounding(
    kind: type[Layer], sizes: tuple[int, ...], shape: tuple[int, ...], binary: bool
) -> None:
    torch.manual_seed(0)
    layer = kind(*sizes, replace(SMALL, binary=binary))
    x = torch.randn(shape)
    torch.testing.assert_close(layer.train()(x), layer.eval()(x))


def test_the_classifier_of_a_training_network_is_that_of_an_evaluated_one() -> None:
    network = BiFSMNv2(SMALL)
    x = torch.randn(4, SMALL.memory, SMALL.steps)
    torch.testing.assert_close(network.train()._classify(x), network.eval()._classify(x))


@pytest.mark.parametrize("activation", get_args(Activation))
def test_every_parameter_of_the_student_has_a_gradient(activation: Activation) -> None:
    network = lively(replace(SMALL, activation=activation)).train()
    x = features(8)
    torch.stack([network(x, width).square().mean() for width in SMALL.widths]).sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


def test_the_student_starts_from_the_teachers_weights_and_norms() -> None:
    teacher = lively(replace(SMALL, binary=False, widths=(0,)))
    student = BiFSMNv2(SMALL)
    thresholds = student.linear.activation.threshold.clone()
    start_from(student, teacher)
    theirs = teacher.state_dict()
    for name, value in student.state_dict().items():
        if "num_batches_tracked" in name:
            assert value == 0, name
        elif name in theirs:
            assert torch.equal(value, theirs[name]), name
    assert torch.equal(student.linear.activation.threshold, thresholds)
    block = student.blocks["7"]
    for width in ("0", "1", "2"):
        its = teacher.blocks["7"].project_norm["0"]
        assert torch.equal(block.project_norm[width].running_mean, its.running_mean)
        for mine, its in (
            (block.memory_norm, teacher.blocks["7"].memory_norm),
            (block.expand_norm, teacher.blocks["7"].expand_norm),
        ):
            assert torch.equal(mine.get_buffer(f"running_var_{width}"), its.running_var_0)
            assert not torch.equal(its.running_var_0, torch.ones_like(its.running_var_0))


@pytest.mark.parametrize(
    "wrong",
    [
        {"front": 0},
        {"mels": 30},
        {"widths": ()},
        {"widths": (0, 0)},
        {"widths": (4,)},
        {"labels": ()},
        {"labels": ("yes", "yes")},
        {"taps_left": -1},
        {"activation": "triple"},
        {"binarizer": "rough"},
        {"one_bit": ("blocks.8.expand",)},
        {"one_bit": ("classifier",)},
    ],
)
def test_impossible_configurations_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="got"):
        NetworkConfig(**wrong)  # type: ignore[arg-type]


def test_a_configuration_survives_json() -> None:
    config = replace(SMALL, one_bit=("linear",))
    assert NetworkConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_a_configuration_from_before_one_bit_has_two_bits_everywhere() -> None:
    values = SMALL.to_json()
    del values["one_bit"]
    assert NetworkConfig.from_json(values) == SMALL
