"""Run by torchrun: gradients of two processes are those of the whole batch."""

import torch
from torch import Tensor, nn

from bicompile.training.ranks import join


class SquaredError(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        squares: Tensor = self.layer(x).square().mean()
        return squares


with join() as ranks:
    assert (ranks.size, ranks.device) == (2, "cpu")
    for clips in (1, 2, 5):
        torch.manual_seed(clips)
        x, objective = torch.randn(clips, 3), SquaredError()
        whole = objective(x)
        expected = torch.autograd.grad(whole, list(objective.parameters()))
        mine, weight = ranks.share_of(torch.arange(clips))
        parallel = ranks.parallel(objective)
        loss = weight * parallel(x[mine])
        (total,) = ranks.sum(loss.item() / 2)
        torch.testing.assert_close(torch.tensor(total, dtype=torch.float32), whole.detach())
        loss.backward()
        for parameter, gradient in zip(objective.parameters(), expected, strict=True):
            torch.testing.assert_close(parameter.grad, gradient)
    assert ranks.share(lambda: f"made by {ranks.rank}") == "made by 0"
