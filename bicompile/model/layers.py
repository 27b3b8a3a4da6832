"""The four shapes of layer that are binary in the student and float in its twin.

Binary: `y = σ · operate(a, sign(alpha · w)) + bias` with `a` the binarized activation (dual-scale
unless the configuration says otherwise) and `σ = mean |w|` per output channel, or of all
weights where a layer has one number of a kind (`NetworkConfig.numbers`). The scales are
chosen so that both leave the sum: s is constant along what a layer sums over, and so is σ. Float:
`y = operate(x, w) + bias`.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from bicompile.model.binarizer import DualScale, SingleSign, WeightSign, sign
from bicompile.model.config import NetworkConfig
from bicompile.model.fast import depthwise_conv, pad_frames, pointwise_conv


class Layer(nn.Module):
    """A linear map with a weight and a bias, binary or float.

    Subclasses say how a weight meets an input (`operate`), how a number per input channel
    broadcasts against the input, and along which axes the activation's scale is averaged.
    """

    weight_sign: Tensor
    sigma: Tensor
    normed = True  # a norm follows

    def __init__(
        self,
        weight_shape: tuple[int, ...],
        config: NetworkConfig,
        *,
        channels: int,
        trailing: int,
        scale_axes: tuple[int, ...],
    ) -> None:
        """`channels` come in; `trailing` axes follow the channel axis in input and output."""
        super().__init__()
        outputs, fan_in = weight_shape[0], math.prod(weight_shape[1:])
        bound = 1 / math.sqrt(fan_in)
        self.weight = nn.Parameter(torch.empty(weight_shape).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))
        if config.binary and config.settled and self.normed:  # the norm's shift has it
            self.bias.requires_grad = False
            nn.init.zeros_(self.bias)
        self.output_shape = (outputs, *[1] * trailing)
        self.binary = config.binary
        self.per_layer = config.binary and config.numbers == "layer"
        self.frozen = False
        if self.binary:
            learned = config.binarizer == "learned"
            shape = (1 if self.per_layer else channels, *[1] * trailing)
            axes = scale_axes if config.activation == "dual" else ()
            self.activation = (
                SingleSign(shape, learned=learned)
                if config.activation == "single"
                else DualScale(shape, axes, learned=learned, shifted=not self.per_layer)
            )
            self.weight_alpha = nn.Parameter(torch.ones(()), requires_grad=learned)

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Apply `weight` to `x`; a `bias` comes in training alone, which no export sees."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        if self.training:
            if self.binary:
                x, weight = self.activation(x), self._binary_weight()
            else:
                weight = self.weight
            return self.operate(x, weight, self.bias)
        bias = self.bias.view(self.output_shape)
        if not self.binary:
            return self.operate(x, self.weight) + bias
        a: Tensor = self.activation(x)
        if self.frozen:
            return self.operate(a, self.weight_sign) * self.sigma + bias
        # The scale after the sum, as when frozen: the same roundings, so the same later signs.
        weight = sign(self.weight_alpha * self.weight)
        return self.operate(a, weight) * self._sigma().view(self.output_shape) + bias

    def freeze(self) -> None:
        """Bake the weights to exact ±1 (`weight_sign`) and a scale per output channel (`sigma`).

        From then on `forward` uses only plain operators and gives the weights no gradient. The
        float weights stay, so that a frozen network can still be saved. Nothing happens to a float
        layer.
        """
        if self.binary and not self.frozen:
            with torch.no_grad():
                weight_sign = sign(self.weight_alpha * self.weight)
                sigma = self._sigma().view(self.output_shape)
            self.register_buffer("weight_sign", weight_sign, persistent=False)
            self.register_buffer("sigma", sigma, persistent=False)
            self.frozen = True

    def _binary_weight(self) -> Tensor:
        scale = self._sigma().view(-1, *[1] * (self.weight.dim() - 1))
        weight: Tensor = WeightSign.apply(  # type: ignore[no-untyped-call]
            self.weight, self.weight_alpha, scale
        )
        return weight

    def _sigma(self) -> Tensor:
        of_outputs = self.weight.detach().abs().flatten(1).mean(1)
        return of_outputs.mean().expand_as(of_outputs) if self.per_layer else of_outputs


class Linear(Layer):
    """(N, T, inputs) → (N, T, outputs); the activation has one scale per frame."""

    normed = False

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        """Make a layer with `outputs` × `inputs` weights."""
        super().__init__((outputs, inputs), config, channels=inputs, trailing=0, scale_axes=(2,))

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Multiply every frame by the weight."""
        return functional.linear(x, weight, bias)


class Pointwise(Layer):
    """1x1 convolution (N, inputs, T) → (N, outputs, T); one scale per frame."""

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        """Make a layer with `outputs` × `inputs` weights."""
        super().__init__((outputs, inputs, 1), config, channels=inputs, trailing=1, scale_axes=(1,))

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve."""
        if bias is None:
            return functional.conv1d(x, weight)
        return pointwise_conv(x, weight, bias)


class Memory(Layer):
    """Depthwise convolution over time, (N, C, T) → (N, C, T); one scale per channel.

    Zeros are padded before binarization: they become bits like every other value, and count in
    the scale.
    """

    def __init__(self, channels: int, config: NetworkConfig) -> None:
        """Make a layer that sees `taps_left` frames of the past and `taps_right` of the future."""
        padding = (config.taps_left, config.taps_right)
        super().__init__(
            (channels, 1, sum(padding) + 1), config, channels=channels, trailing=1, scale_axes=(2,)
        )
        self.padding = padding
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer."""
        if self.training:
            return super().forward(pad_frames(x, self.padding))
        return super().forward(functional.pad(x, self.padding))

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve every channel with its own taps."""
        if bias is None:
            return functional.conv1d(x, weight, groups=self.channels)
        return depthwise_conv(x, weight, bias)


class Convolution(Layer):
    """5x5 convolution, stride 2, (N, inputs, H, W) → (N, outputs, H/2, W/2); a scale per sample.

    Zeros are padded behind a dual-scale binarization, and are neither +1 nor -1; behind one to a
    single bit, which cannot say zero, it is -1.
    """

    def __init__(self, inputs: int, outputs: int, config: NetworkConfig) -> None:
        """Make a layer with `outputs` × `inputs` × 5 × 5 weights."""
        super().__init__(
            (outputs, inputs, 5, 5), config, channels=inputs, trailing=2, scale_axes=(1, 2, 3)
        )
        self.border_is_bits = config.binary and config.activation == "single"

    def operate(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        """Convolve."""
        if self.border_is_bits:
            x = functional.pad(x, [2] * 4, value=-1.0)
            return functional.conv2d(x, weight, bias, stride=2)
        return functional.conv2d(x, weight, bias, stride=2, padding=2)
