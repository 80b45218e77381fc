"""The commands. While one is being imported, SIGINT ends it without a traceback; `listening` then takes over."""

import os
import signal
import sys

# the program's name is `-m` while Python looks for the module of `python -m`
_IS_COMMAND = sys.argv[:1] == ["-m"] or os.path.basename(sys.argv[0] if sys.argv else "").startswith("aft-")

if _IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
