"""accelerate's launcher, which ends when the conductor does, and whose ranks end when it does."""

from __future__ import annotations

import os
import signal
import sys

from ..ending import end_with_parent, tied

_AT_RANK = "--machine_rank"


def main() -> None:
    """Runs `accelerate launch` with the arguments of this process."""
    from accelerate.commands.launch import main as launch

    end_with_parent()
    os.environ.update(tied())
    if _AT_RANK in sys.argv:  # one of several machines
        sys.argv[sys.argv.index(_AT_RANK) + 1] = os.environ["SLURM_PROCID"]
    # The whole process group gets the signal. The ranks end at a safe point, and a launcher that does not pass the
    # signal on must wait for them. A handler, because an ignored signal would stay ignored in the ranks.
    signal.signal(signal.SIGTERM, lambda *_: None)
    # srun passes this signal on to its tasks alone, and torchrun SIGTERM to the ranks
    signal.signal(signal.SIGUSR1, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    # torchrun passes the signal on, and kills the ranks after 30 s. That is left to the conductor, which knows whether
    # they save. Ranks that outlive another one that failed are still killed after 30 s.
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "86400")
    launch()


if __name__ == "__main__":
    main()
