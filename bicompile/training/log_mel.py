"""The features of `bicompile.features` in torch, for many clips at once."""

import torch
from torch import Tensor, nn

from bicompile.features import FLOOR, HOP, WINDOW, hann, mel_filters


class LogMel(nn.Module):
    """(N, 16000) float32 samples → (N, 1, 32, 32) float32 dB.

    Computed in float64: in float32 a quiet band beside a loud one loses its third decimal.
    """

    window: Tensor
    filters: Tensor

    def __init__(self) -> None:
        """Make the window and the filters."""
        super().__init__()
        self.register_buffer("window", torch.tensor(hann()))
        self.register_buffer("filters", torch.tensor(mel_filters()))

    def forward(self, samples: Tensor) -> Tensor:
        """Compute the features."""
        spectrum = torch.stft(
            samples.double(),
            WINDOW,
            HOP,
            window=self.window,
            pad_mode="reflect",
            return_complex=True,
        )
        power = torch.view_as_real(spectrum).square().sum(-1)
        mels = power.transpose(1, 2) @ self.filters
        decibels = 10 * mels.clamp(min=FLOOR).log10()
        return decibels.transpose(1, 2)[:, None].float()
