"""Where do wrong chains show their worth? Votes, pass@k, distinct chains, other questions. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("wrong-chains")))
