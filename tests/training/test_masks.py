"""Changes of features in the loop: what they may do, and that a generator fixes them."""

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bicompile.training.masks import Masks
from bicompile.training.recipe import Augmentation

CLIPS = 20
mosts = st.integers(0, 31)


def changed(x: Tensor, seed: int, **mosts: int) -> Tensor:
    settings = {"time_shift": 0, "time_mask": 0, "mel_mask": 0, **mosts}
    generator = torch.Generator().manual_seed(seed)
    masks = Masks.draw(Augmentation(**settings), CLIPS, generator, "cpu")
    return masks.apply(x, torch.arange(len(x)))


def random_clips(seed: int) -> Tensor:
    return torch.randn(CLIPS, 1, 32, 32, generator=torch.Generator().manual_seed(seed))


def test_zeros_switch_everything_off() -> None:
    x = random_clips(0)
    assert torch.equal(changed(x, 1), x)


@given(seed=st.integers(0, 100), shift=mosts)
def test_a_shift_moves_frames_and_repeats_the_edge(seed: int, shift: int) -> None:
    ramp = torch.arange(32.0).expand(CLIPS, 1, 32, 32)
    found = changed(ramp, seed, time_shift=shift)
    moved = 16 - found[:, 0, 0, 16] if shift < 16 else None
    if moved is not None:
        assert moved.abs().max() <= shift
        assert torch.equal(found, (ramp - moved[:, None, None, None]).clamp(0, 31))
    assert found.diff(dim=3).min() >= 0


@given(seed=st.integers(0, 100), frames=mosts, mels=mosts)
def test_masks_hide_at_most_so_many_frames_and_bands_with_the_mean(
    seed: int, frames: int, mels: int
) -> None:
    x = random_clips(seed)
    found = changed(x, seed, time_mask=frames, mel_mask=mels)
    hidden = found != x
    assert hidden.all(2).sum(2).max() <= frames
    assert hidden.all(3).sum(2).max() <= mels
    whole = hidden.all(2, keepdim=True) | hidden.all(3, keepdim=True)
    assert torch.equal(whole.expand_as(hidden), hidden)
    assert torch.equal(found, torch.where(hidden, x.mean((1, 2, 3), keepdim=True), x))


def test_masks_reach_the_last_frame_and_the_whole_length() -> None:
    x = torch.arange(1024.0).reshape(1, 1, 32, 32).expand(CLIPS, 1, 32, 32)
    hidden = torch.stack([(changed(x, seed, time_mask=3) != x)[:, 0, 0] for seed in range(50)])
    assert hidden[..., 0].any()
    assert hidden[..., 31].any()
    assert set(hidden.sum(-1).flatten().tolist()) == {0, 1, 2, 3}


def test_a_clip_is_changed_alike_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    settings = Augmentation(time_shift=4, time_mask=8, mel_mask=8)
    masks = Masks.draw(settings, CLIPS, generator, "cpu")
    x = random_clips(3)
    chosen = torch.tensor([7, 3, 11])
    together = masks.apply(x, torch.arange(CLIPS))
    assert torch.equal(masks.apply(x[chosen], chosen), together[chosen])
