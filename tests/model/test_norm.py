"""Batch norm with statistics for each width, against torch's own and the definition."""

from pathlib import Path

import onnx
import pytest
import torch
from torch import nn

from bicompile.model.norm import EPSILON, MOMENTUM, FixedNorm, Norm

SHAPES = [(8, 5, 6), (8, 5, 4, 4)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
def test_it_normalises_as_torch_does(shape: tuple[int, ...], training: bool) -> None:
    torch.manual_seed(0)
    mine, its = Norm(5).double(), nn.BatchNorm1d(5).double()
    its._check_input_dim = lambda _: None  # any number of axes
    its.load_state_dict(lively(mine).state_dict())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    chosen = torch.randn(shape, dtype=torch.float64)
    got, expected = mine.train(training)(x), its.train(training)(x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad((got * chosen).sum(), (x, *mine.parameters())),
        torch.autograd.grad((expected * chosen).sum(), (x, *its.parameters())),
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_one_factor_divides_all_channels_by_the_root_of_their_mean_variance(
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    norm = lively(Norm(5, one_factor=True).double())
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    chosen = torch.randn(shape, dtype=torch.float64)
    rows = x.movedim(1, -1)
    centred = rows - rows.flatten(0, -2).mean(0)
    scale = norm.weight / torch.sqrt(centred.square().mean() + EPSILON)
    expected = (centred * scale + norm.bias).movedim(-1, 1)
    got = norm(x)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad((got * chosen).sum(), (x, *norm.parameters())),
        torch.autograd.grad((expected * chosen).sum(), (x, *norm.parameters())),
    )


@pytest.mark.parametrize("one_factor", [True, False])
def test_folded_is_what_a_norm_does_once_trained(one_factor: bool) -> None:
    torch.manual_seed(0)
    norm = lively(Norm(5, (0, 3), one_factor=one_factor)).eval()
    x = torch.randn(4, 5, 6)
    factor, shift = norm.folded("_3")
    assert len(factor) == (1 if one_factor else 5)
    torch.testing.assert_close(x * factor[:, None] + shift[:, None], norm(x, (3,)))


@pytest.mark.parametrize("one_factor", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_fixed_norm_is_the_same_in_training(shape: tuple[int, ...], one_factor: bool) -> None:
    torch.manual_seed(0)
    norm = FixedNorm(5, one_factor=one_factor)
    with torch.no_grad():
        norm.factor.uniform_(0.5, 2)
        norm.shift.uniform_(-1, 1)
    x = torch.randn(shape)
    each = (-1, *[1] * (len(shape) - 2))
    expected = x * norm.factor.view(each) + norm.shift.view(each)
    for training in (True, False):
        torch.testing.assert_close(norm.train(training)(x), expected)
    assert [name for name, _ in norm.named_parameters()] == ["factor"]


def test_a_fixed_norm_has_a_factor_and_shifts_of_every_width() -> None:
    norm = FixedNorm(2, (0, 2), one_factor=True)
    norm.shift_2.fill_(7)
    x = torch.zeros(4, 2, 3)
    joined = norm(torch.cat([x, x]), (0, 2))
    assert joined[:4].eq(0).all()
    assert joined[4:].eq(7).all()


def lively(norm: Norm) -> Norm:
    with torch.no_grad():
        for name, value in norm.state_dict().items():
            if "num_batches" not in name:
                value.uniform_(0.5, 2)
    return norm


def test_early_statistics_are_the_mean_over_all_batches() -> None:
    torch.manual_seed(1)
    norm = Norm(3)
    batches = torch.randn(20, 16, 3, 4) * 3 + 1
    for batch in batches:
        norm(batch)
    torch.testing.assert_close(norm.running_mean, batches.mean((0, 1, 3)))
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches])
    torch.testing.assert_close(norm.running_var, variances.mean(0))


def test_late_statistics_forget_at_the_rate_of_the_momentum() -> None:
    norm = Norm(1)
    for _ in range(60):
        norm(torch.zeros(4, 1, 2))
    norm(torch.ones(4, 1, 2))
    torch.testing.assert_close(norm.running_mean, torch.tensor([MOMENTUM]))


def test_widths_share_weights_and_keep_their_own_statistics() -> None:
    norm = Norm(2, (0, 2))
    assert [name for name, _ in norm.named_parameters()] == ["weight", "bias"]
    norm(torch.full((4, 2, 3), 7.0), (2,))
    assert norm.running_mean_2.tolist() == [7, 7]
    assert norm.running_mean_0.tolist() == [0, 0]


@pytest.mark.parametrize("training", [True, False])
def test_joined_batches_are_normalised_each_by_itself(training: bool) -> None:
    torch.manual_seed(2)
    together, apart = Norm(3, (0, 1)).train(training), Norm(3, (0, 1)).train(training)
    first, second = torch.randn(4, 3, 2) + 1, torch.randn(4, 3, 2) * 5
    expected = torch.cat([apart(first, (0,)), apart(second, (1,))])
    torch.testing.assert_close(together(torch.cat([first, second]), (0, 1)), expected)
    for mine, its in zip(together.buffers(), apart.buffers(), strict=True):
        assert torch.equal(mine, its)


def test_a_width_that_a_norm_lacks_is_refused() -> None:
    with pytest.raises(AttributeError, match="running_mean_1"):
        Norm(2, (0, 2))(torch.zeros(4, 2, 3), (1,))


class OfWidth2(nn.Module):
    """A norm of two widths as one of them runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = lively(Norm(3, (0, 2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.norm(x, (2,))
        return result


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dynamo", [True, False])
def test_a_width_exports_as_one_plain_batch_norm(dynamo: bool, tmp_path: Path) -> None:
    path = tmp_path / "norm.onnx"
    x = torch.randn(1, 3, 4)
    torch.onnx.export(OfWidth2().eval(), (x,), path, dynamo=dynamo, verbose=False)
    assert [node.op_type for node in onnx.load(path).graph.node] == ["BatchNormalization"]
