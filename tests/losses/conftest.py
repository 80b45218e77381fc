"""Makes `reference_losses`, one folder up, importable from the tests of the losses."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
