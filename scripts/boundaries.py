"""Constraints without a constant against fixed β, in every world of the laboratory. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("boundaries")))
