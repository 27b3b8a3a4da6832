"""Make the norms of a trained student fixed: a factor, and shifts that a byte each can hold.

Statistics that follow the batches end as one shift for each channel and width, most of what is
left of a layer beside its bits. Rounded shifts move bits, so that the rest of the network wants
some more epochs with them as they will stay.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor

from bicompile.model.layers import Layer
from bicompile.model.network import BiFSMNv2
from bicompile.model.norm import FixedNorm, Norm, ends_of

LEVELS = 256


def settled(network: BiFSMNv2) -> BiFSMNv2:
    """Return a student with fixed norms, in eval mode, that computes next to the same.

    Its shifts take in the biases of the layers before them, and are those of `on_steps`. Raises
    ValueError for a float network, and for one that is settled.
    """
    config = network.config
    if not config.binary or config.settled:
        raise ValueError("only a binary network that is not settled can be settled")
    fixed = BiFSMNv2(replace(config, settled=True))
    state = network.state_dict()
    skipped = {f"{name}.bias" for name, _, _ in _normed(fixed)}
    kept = {
        name: state[name] for name in fixed.state_dict() if name in state and name not in skipped
    }
    fixed.load_state_dict(kept, strict=False)
    for name, norm, widths in _normed(fixed):
        source = network.get_submodule(norm)
        target = fixed.get_submodule(norm)
        assert isinstance(source, Norm)
        assert isinstance(target, FixedNorm)
        with torch.no_grad():
            for end in ends_of(widths):
                factor, shift = source.folded(end)
                target.get_parameter(f"factor{end}").copy_(factor)
                shift = shift + state[f"{name}.bias"] * factor
                target.get_buffer(f"shift{end}").copy_(on_steps(shift))
    return fixed.to(next(iter(state.values())).device).eval()


def on_steps(numbers: Tensor) -> Tensor:
    """Round to multiples of a power of two, of which the range of `numbers` has at most 256."""
    least = float(numbers.abs().max()) / LEVELS  # of equal numbers: a byte for each of them, too
    span = max(float(numbers.max() - numbers.min()), least, torch.finfo(numbers.dtype).tiny)
    step = 2.0 ** math.ceil(math.log2(span / (LEVELS - 2)))
    return (numbers / step).round() * step


def _normed(network: BiFSMNv2) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    """Every binary layer that a norm follows, the norms behind it, and the widths of each."""
    for name, module in network.named_modules():
        if not isinstance(module, Layer) or not module.normed:
            continue
        if name == "front.conv2":
            yield name, "front.norm2", ()
            continue
        block = int(name.split(".")[1])
        widths = tuple(w for w in network.config.widths if block in network.config.blocks_of(w))
        if name.endswith("project"):
            for width in widths:
                yield name, f"{name}_norm.{width}", ()
        else:
            yield name, f"{name}_norm", widths
