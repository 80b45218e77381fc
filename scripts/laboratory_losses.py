"""Each loss without and with its constraint in a world where VFT misassesses. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("laboratory-losses")))
