"""Where do wrong chains show their worth? Votes, pass@k, diverse right paths, longer questions. See docs/tables.md."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("wrong-chains")))
