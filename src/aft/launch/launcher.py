"""accelerate's launcher, which ends when the conductor does, and whose ranks end when it does."""

from __future__ import annotations

import os
import signal

from ..ending import end_with_parent, tied


def main() -> None:
    """Runs `accelerate launch` with the arguments of this process."""
    from accelerate.commands.launch import main as launch

    end_with_parent()
    os.environ.update(tied())
    # The whole process group gets the signal. The ranks end at a safe point, and a launcher that does not pass the
    # signal on must wait for them. A handler, because an ignored signal would stay ignored in the ranks.
    signal.signal(signal.SIGTERM, lambda *_: None)
    # torchrun passes the signal on, and kills the ranks after 30 s. That is left to the conductor, which knows whether
    # they save. Ranks that outlive another one that failed are still killed after 30 s.
    os.environ.setdefault("PET_SHUTDOWN_TIMEOUT", "86400")
    launch()


if __name__ == "__main__":
    main()
