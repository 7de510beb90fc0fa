"""The place of this process among those that torchrun started. Never loads torch."""

import os
import socket
from dataclasses import dataclass


@dataclass(frozen=True)
class World:
    """This process is `rank` of `size` in all, and `local_rank` of `local_size` on its machine, all from 0."""

    rank: int
    size: int
    local_rank: int
    local_size: int

    @property
    def name(self) -> str:
        """Such as "rank 3 on node7"."""
        return f"rank {self.rank} on {socket.gethostname()}"


def world_of_torchrun() -> World | None:
    """What torchrun says of this process; None if it was started otherwise, or alone."""
    if "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("WORLD_SIZE") == "1":
        return None
    return World(*(int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")))
