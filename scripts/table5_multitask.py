"""Table 5: several tasks at once, and one that was not trained on. docs/tables.md says how."""

import sys

from aft.cli.main import guarded
from aft.paper.runner import main

if __name__ == "__main__":
    sys.exit(guarded(lambda: main("5")))
