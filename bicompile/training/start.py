"""Where the thresholds and shifts of a binary network start: at what they are subtracted from.

Behind a PReLU with a small or negative slope nearly every value has one sign, so that a first sign
with a threshold at 0 says nothing. With θ = mean x and θ1 = mean (x − b1), per channel over a few
clips, either sign splits what it sees in two.
"""

from copy import deepcopy

import torch
from torch import Tensor, nn

from bicompile.model.binarizer import DualScale, SingleSign, sign
from bicompile.model.network import BiFSMNv2

CLIPS = 512
"""So many clips say where a channel's mean lies."""


def start_at_means(network: BiFSMNv2, features: Tensor) -> None:
    """Set every learned threshold and first shift to its channel's mean, layer after layer.

    `features` is (N, 1, mels, frames). A layer's means are those behind the layers before it as
    they are set then. Statistics of norms stay as they are.
    """
    probe = deepcopy(network).train()
    for module in probe.modules():
        if isinstance(module, SingleSign) and module.threshold.requires_grad:
            module.register_forward_pre_hook(_set_means)
    with torch.no_grad():
        probe.run(probe.embed(features), probe.config.widths)
        set_ = dict(probe.named_parameters())
        for name, parameter in network.named_parameters():
            parameter.copy_(set_[name])


def _set_means(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    assert isinstance(module, SingleSign)
    (x,) = inputs
    module.threshold.copy_(_means(x, module.threshold))
    if isinstance(module, DualScale):
        b1 = sign(module.alpha1 * (x - module.threshold))
        module.shift1.copy_(_means(x - b1, module.shift1))


def _means(x: Tensor, like: Tensor) -> Tensor:
    """The mean of x over all axes but the one along which `like` has numbers."""
    leading = x.dim() - like.dim()
    axes = [n for n in range(x.dim()) if n < leading or like.shape[n - leading] == 1]
    return x.mean(axes).view(like.shape)
