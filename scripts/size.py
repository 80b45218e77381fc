"""Gain of RFT, AFT and both over the size of the model, k and data. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("size")))
