"""The processes that train together: this one alone, or as many as torchrun started."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from bicompile.errors import UserError

PATIENCE = timedelta(hours=6)  # of processes that wait while another makes features

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together, and where it computes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Its number on this host."""
    device: str = "cpu"

    @property
    def main(self) -> bool:
        """Whether this is the one process that writes files and prints."""
        return self.rank == 0

    def share(self, make: Callable[[], T]) -> T:
        """Return what the main process makes, in all of them; so is a UserError raised.

        The value must be picklable.
        """
        if self.size == 1:
            return make()
        box: list[Any] = [None, None]
        if self.main:
            try:
                box[0] = make()
            except UserError as error:
                box[1] = error
        distributed.broadcast_object_list(box)
        made, refused = box
        if refused is not None:
            raise refused
        return made  # type: ignore[no-any-return]

    def one_of_host_first(self, make: Callable[[], T]) -> T:
        """Let every process make a value, but the first of each host before the others.

        What the first one leaves in a cache then serves them all.
        """
        if self.size == 1:
            return make()
        made = make() if self.local_rank == 0 else None
        distributed.barrier()
        return make() if made is None else made

    def sum(self, *values: float) -> list[float]:
        """Add up every value over the processes."""
        if self.size == 1:
            return list(values)
        both = torch.tensor(values, dtype=torch.float64)
        distributed.all_reduce(both)
        return both.tolist()

    def share_of(self, batch: Tensor) -> tuple[Tensor, float]:
        """Return this process's part of a batch (N,), and the weight of its mean loss.

        Averaged over the processes, weight · mean loss is the mean loss of the whole batch.
        """
        mine = batch[self.rank :: self.size]
        if len(mine) == 0:  # its gradient is awaited all the same
            return batch[:1], 0.0
        return mine, len(mine) * self.size / len(batch)

    def parallel(self, objective: nn.Module) -> nn.Module:
        """Return a module that computes the same, and averages gradients over the processes.

        Buffers are those of the main process: every process normalizes its share of a batch by
        statistics of that share, and the running ones are gathered over the main process's shares.
        """
        if self.size == 1:
            return objective
        devices = None if self.device == "cpu" else [self.local_rank]
        return DistributedDataParallel(objective, device_ids=devices)


@contextmanager
def join() -> Iterator[Ranks]:
    """Join the processes that torchrun started, if it did, until the block ends.

    A GPU is used where there is one, one for each process of a host. A UserError is told by one
    process of each host only. Raises UserError for more processes than GPUs.
    """
    rank, size, local_rank = (
        int(os.environ.get(name, default))
        for name, default in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0"))
    )
    device, backend = "cpu", "gloo"
    if torch.cuda.is_available():
        gpus = torch.cuda.device_count()
        if local_rank >= gpus:
            raise UserError(
                f"this host has {gpus} GPUs, fewer than processes; give torchrun "
                f"--nproc-per-node {gpus}"
            )
        device, backend = f"cuda:{local_rank}", "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(local_rank)
    if size > 1:
        distributed.init_process_group(backend, timeout=PATIENCE)
    try:
        yield Ranks(rank, size, local_rank, device)
    except UserError:
        if local_rank > 0:
            raise SystemExit(2) from None
        raise
    finally:
        if size > 1:
            distributed.destroy_process_group()
