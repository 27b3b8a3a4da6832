"""Every variant that an ablation switches to trains, freezes, exports and compiles."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

import bicompile
from bicompile.model.checkpoint import load_checkpoint, save_checkpoint
from bicompile.model.config import Activation, Binarizer, NetworkConfig
from bicompile.model.network import BiFSMNv2

SMALL = NetworkConfig(
    front=4, hidden=24, memory=16, blocks=1, widths=(0,), labels=("yes", "no", "up")
)
VARIANTS = ["-".join(names) for names in itertools.product(*map(get_args, (Activation, Binarizer)))]
QUICK = "single-plain"  # the one that is furthest from the default, which other tests compile


@pytest.fixture(scope="module")
def checkpoint(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a network after a few steps, which changed everything that is learned."""
    activation, _, binarizer = request.param.rpartition("-")
    torch.manual_seed(0)
    network = BiFSMNv2(replace(SMALL, activation=activation, binarizer=binarizer))
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
    before = {name: value.clone() for name, value in network.named_parameters()}
    for _ in range(4):
        optimizer.zero_grad()
        network(features(16)).square().mean().backward()
        optimizer.step()
    for name, value in network.named_parameters():
        assert torch.equal(value, before[name]) != value.requires_grad, name
    path = tmp_path_factory.mktemp("variant") / "net.safetensors"
    save_checkpoint(path, network, {})
    return path


def features(count: int) -> torch.Tensor:
    return 20 * torch.randn(count, 1, 32, 32) - 30


@pytest.mark.parametrize("checkpoint", VARIANTS, indirect=True)
def test_a_loaded_variant_still_knows_what_is_learned(checkpoint: Path) -> None:
    network, _ = load_checkpoint(checkpoint)
    learned = network.config.binarizer == "learned"
    for name, parameter in network.named_parameters():
        kept = any(word in name for word in ("threshold", "shift", "alpha"))
        assert parameter.requires_grad == (learned or not kept), name
        if not learned and kept:
            assert (parameter == float("alpha" in name)).all(), name


@pytest.mark.parametrize("checkpoint", VARIANTS, indirect=True)
def test_a_frozen_variant_gives_the_logits_of_unfrozen(checkpoint: Path) -> None:
    network, _ = load_checkpoint(checkpoint)
    x = features(8)
    expected = network(x)
    torch.testing.assert_close(network.freeze()(x), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "checkpoint",
    [pytest.param(each, marks=[] if each == QUICK else pytest.mark.slow) for each in VARIANTS],
    indirect=True,
)
def test_a_variant_compiles_to_popcounts_with_the_logits_of_torch(
    checkpoint: Path, tmp_path: Path
) -> None:
    artifact = bicompile.compile(checkpoint, target="cortex-a53", out=tmp_path / "out", check=False)
    report = (artifact.folder / "report.json").read_text()
    assert report.count('"binary": true') >= 4  # all but the first, the last and the memory
    network, _ = load_checkpoint(checkpoint)
    network.freeze()
    x = features(8)
    with torch.no_grad():
        expected = network(x).numpy()
    found = np.concatenate([artifact.run(each.numpy()) for each in x.split(1)])
    # The median, because a sum that lies at a threshold may take the other sign.
    assert np.median(np.abs(found - expected).max(1)) < 1e-3
