"""Figure 2a: accuracy over the number of sampled candidates, from one sample set. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("k")))
