"""Changes of cached features in the loop: shifts and masks that differ in every epoch.

As SpecAugment (Interspeech 2019) hides parts of a spectrogram, with one mask along each axis. What
is hidden takes the mean of its clip: in decibels a zero would be loud.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from bicompile.features import FRAMES, MELS
from bicompile.training.recipe import Augmentation


@dataclass(frozen=True)
class Masks:
    """What happens to every clip of a split in one epoch."""

    shift: Tensor
    """(clips,) int64: by how many frames a clip comes later."""
    hidden_frames: tuple[Tensor, Tensor]
    """(clips,) int64 each: the first hidden frame, and how many there are."""
    hidden_mels: tuple[Tensor, Tensor]
    """Likewise for mel bands."""

    @classmethod
    def draw(
        cls, augmentation: Augmentation, clips: int, generator: torch.Generator, device: str
    ) -> "Masks":
        """Draw for `clips` clips; the values are on `device` and depend on the generator alone."""

        def span(most: int, size: int) -> tuple[Tensor, Tensor]:
            count = torch.randint(most + 1, (clips,), generator=generator)
            first = torch.rand(clips, generator=generator, dtype=torch.float64) * (size - count + 1)
            return first.long().to(device), count.to(device)

        most = augmentation.time_shift
        shift = torch.randint(-most, most + 1, (clips,), generator=generator)
        frames = span(augmentation.time_mask, FRAMES)
        return cls(shift.to(device), frames, span(augmentation.mel_mask, MELS))

    def apply(self, x: Tensor, chosen: Tensor) -> Tensor:
        """Change the features `x` (N, 1, mels, frames) of the clips with the indices `chosen` (N,).

        The first or the last frame is repeated where a shift leaves nothing.
        """
        source = (torch.arange(FRAMES, device=x.device) - self.shift[chosen, None]).clamp(
            0, FRAMES - 1
        )
        x = x.gather(3, source[:, None, None].expand_as(x))
        hidden = (
            _spans(self.hidden_frames, chosen, FRAMES)[:, None, :]
            | _spans(self.hidden_mels, chosen, MELS)[:, :, None]
        )
        return torch.where(hidden[:, None], x.mean((1, 2, 3), keepdim=True), x)


def _spans(span: tuple[Tensor, Tensor], chosen: Tensor, size: int) -> Tensor:
    """Which of `size` places are hidden, (N, size) bool."""
    first, count = (each[chosen, None] for each in span)
    places = torch.arange(size, device=first.device)
    return (places >= first) & (places < first + count)
