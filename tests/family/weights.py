"""The ways binary weights and their scales reach a graph: baked, or as nodes over real weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from .member import BINARY, WEIGHT_IS_ZERO, WEIGHT_SCALE_VARIES, WEIGHTS_ARE_REAL, Member
from .parts import Chain, Function, LatentConv2d, LatentLinear, bake, per_output, sign

SHAPE = (5, 6, 3, 3)


def sign_only(weight: Tensor) -> Tensor:
    return weight.sign()


def comparison(weight: Tensor) -> Tensor:
    return torch.where(weight >= 0, 1.0, -1.0)


def mean_per_output(weight: Tensor) -> Tensor:
    """XNOR-Net's: the scale that is best in the mean square, for every output channel."""
    return weight.sign() * weight.abs().mean((1, 2, 3), keepdim=True)


def mean_over_all(weight: Tensor) -> Tensor:
    """DoReFa-Net's: one scale for the whole tensor."""
    return weight.sign() * weight.abs().mean()


def norm_per_output(weight: Tensor) -> Tensor:
    """XNOR-Net's as its authors wrote it: an L1 norm divided by the count, over flat rows."""
    flat = weight.view(weight.shape[0], -1)
    scale = flat.norm(1, 1, keepdim=True) / flat.shape[1]
    return flat.sign().mul(scale).view_as(weight)


def centred_and_clipped(weight: Tensor) -> Tensor:
    """XNOR-Net's training form: the mean over the inputs is taken off before the sign."""
    centred = torch.clamp(weight - weight.mean(1, keepdim=True), -1, 1)
    return centred.sign() * centred.abs().mean((1, 2, 3), keepdim=True)


def residue(weight: Tensor) -> Tensor:
    """ReActNet's: the values of σ·sign(w), the gradient of the clip.

    (q − c) + c is q only up to rounding: computed first, the weights take many values.
    """
    scale = weight.abs().mean((1, 2, 3), keepdim=True).detach()
    quantized, clipped = scale * weight.sign(), torch.clamp(weight, -1, 1)
    return quantized.detach() - clipped.detach() + clipped


def mean_per_input(weight: Tensor) -> Tensor:
    return weight.sign() * weight.abs().mean((0, 2, 3), keepdim=True)


def mean_per_row(weight: Tensor) -> Tensor:
    """One scale for every row of a kernel; in a linear layer, for every output."""
    return weight.sign() * weight.abs().mean(-1, keepdim=True)


def per_element(weight: Tensor) -> Tensor:
    """The weight itself."""
    return weight.sign() * weight.abs()


def _in_graph(binarize: Function, expected: str = BINARY) -> Member:
    def build() -> tuple[nn.Module, Tensor]:
        outputs, inputs, *_ = SHAPE
        layer = LatentConv2d(inputs, outputs, 3, padding=1, binarize=binarize)
        return Chain(sign, layer), torch.randn(1, inputs, 5, 7)

    return Member(f"weights_in_graph_{binarize.__name__}", build, {"layer": expected})


def _in_graph_linear() -> tuple[nn.Module, Tensor]:
    return Chain(sign, LatentLinear(19, 7, binarize=mean_per_row)), torch.randn(1, 4, 19)


def _baked(name: str, scale: Callable[[Tensor], Tensor | float], expected: str = BINARY) -> Member:
    def build() -> tuple[nn.Module, Tensor]:
        outputs, inputs, *_ = SHAPE
        layer = nn.Conv2d(inputs, outputs, 3, padding=1)
        return Chain(sign, bake(layer, scale(layer.weight))), torch.randn(1, inputs, 5, 7)

    return Member(f"weights_baked_{name}", build, {"layer": expected})


def _with_a_dead_output(weight: Tensor) -> Tensor:
    scale = weight.abs().mean((1, 2, 3), keepdim=True)
    scale[0] = 0.0
    return scale


def _with_negative_scales(weight: Tensor) -> Tensor:
    return torch.linspace(-1, 1, len(weight)).add(0.1).view(-1, 1, 1, 1)


def _with_holes(weight: Tensor) -> Tensor:
    return (weight.abs() > weight.abs().mean() / 2).float()


def _real() -> tuple[nn.Module, Tensor]:
    return Chain(sign, nn.Conv2d(6, 5, 3, padding=1)), torch.randn(1, 6, 5, 7)


def _baked_linear() -> tuple[nn.Module, Tensor]:
    layer = nn.Linear(19, 7)
    return Chain(sign, bake(layer, per_output(layer))), torch.randn(1, 4, 19)


class _ScaleAfter(nn.Module):
    """±1 weights with the scale after the sum, as (1, O, 1, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = bake(nn.Conv2d(6, 5, 3, padding=1, bias=False))
        self.scale = nn.Parameter(torch.rand(1, 5, 1, 1) + 0.1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.prelu(self.layer(sign(x)) * self.scale, torch.tensor([0.25]))


MEMBERS = (
    _baked("plain", lambda weight: 1.0),
    _baked("per_output", lambda weight: weight.abs().mean((1, 2, 3), keepdim=True)),
    _baked("per_tensor", lambda weight: weight.abs().mean()),
    _baked("power_of_two", lambda weight: 0.125),
    # A scale of zero makes a row of zeros: its sum is 0 times anything.
    _baked("dead_output", _with_a_dead_output),
    _baked("negative_scales", _with_negative_scales),
    _baked(
        "per_input", lambda weight: weight.abs().mean((0, 2, 3), keepdim=True), WEIGHT_SCALE_VARIES
    ),
    _baked("per_row", lambda weight: weight.abs().mean(-1, keepdim=True), WEIGHT_SCALE_VARIES),
    _baked("with_zeros", _with_holes, WEIGHT_IS_ZERO),
    Member("weights_baked_linear", _baked_linear, {"layer": BINARY}),
    Member(
        "weights_scale_after", lambda: (_ScaleAfter(), torch.randn(1, 6, 5, 7)), {"layer": BINARY}
    ),
    Member("weights_real", _real, {"layer": WEIGHTS_ARE_REAL}),
    _in_graph(sign_only),
    _in_graph(comparison),
    _in_graph(mean_per_output),
    _in_graph(mean_over_all),
    _in_graph(norm_per_output),
    _in_graph(centred_and_clipped),
    _in_graph(residue),
    _in_graph(mean_per_input, WEIGHT_SCALE_VARIES),
    _in_graph(mean_per_row, WEIGHT_SCALE_VARIES),
    _in_graph(per_element, WEIGHT_SCALE_VARIES),
    Member("weights_in_graph_linear", _in_graph_linear, {"layer": BINARY}),
)
