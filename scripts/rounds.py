"""Do rounds pay, and does AFT gain from them what RFT gains? Equal steps and samples. docs/rounds.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("rounds")))
