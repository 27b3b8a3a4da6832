"""Untrained networks, as checkpoints."""

from pathlib import Path


def untrained(path: Path, **channels: int) -> Path:
    """Write one of widths 0 and 1 with numbers of channels; norms, thresholds and alphas vary."""
    import torch

    from bicompile.model.checkpoint import save_checkpoint
    from bicompile.model.config import NetworkConfig
    from bicompile.model.network import BiFSMNv2

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = BiFSMNv2(NetworkConfig(**channels, blocks=2, widths=(0, 1)))
        for name, value in network.state_dict().items():
            if "running_var" in name:
                value.uniform_(0.5, 2)
            elif "alpha" in name:
                value.uniform_(0.3, 1.5).mul_(torch.randn(()).sign())
            elif "num_batches" not in name and ("norm" in name or "activation" in name):
                value.normal_(0, 0.5)
        network.front.norm1.running_mean.fill_(-10)
        network.front.norm1.running_var.fill_(400)
    save_checkpoint(path, network, {"epochs": 0})
    return path
