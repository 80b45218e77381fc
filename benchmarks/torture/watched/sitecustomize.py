"""On the PYTHONPATH of every command under torture: writes each connection and shell command to $TORTURE_AUDIT."""

import os
import sys

_WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.sendto", "os.system")


def _watch(event, args):
    if event not in _WATCHED or "TORTURE_AUDIT" not in os.environ:
        return
    # the first argument of a socket's event is the socket itself
    told = args[0] if event in ("socket.getaddrinfo", "os.system") else args[1]
    with open(os.environ["TORTURE_AUDIT"], "a", encoding="utf-8") as handle:
        handle.write(f"{event} {told!r}\n")


sys.addaudithook(_watch)
