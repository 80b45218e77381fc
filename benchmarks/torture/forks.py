"""Runs commands of aft in forked processes of one that has imported torch and transformers: seconds less a command.

    python -m torture.forks        reads one JSON object a line from stdin, answers each with one line

The code that runs is the command's own `main`, in a process of its own. Only the imports are shared.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any, NoReturn

# what the stages import; the rest is imported when it is needed
_IMPORTED = (
    *("torch", "transformers", "accelerate", "peft", "safetensors.torch", "transformers.trainer", "numpy", "yaml"),
    *("transformers.models.llama.modeling_llama", "aft.config", "aft.model", "aft.stages.plan", "aft.launch.conductor"),
    *("aft.stages.train", "aft.stages.sample", "aft.stages.evaluate", "aft.stages.label", "aft.launch.units"),
)


def main() -> None:
    """Imports, says so, and serves until stdin ends."""
    for name in _IMPORTED:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(_run(json.loads(line))), flush=True)


def _run(order: dict[str, Any]) -> dict[str, Any]:
    """Runs one command and waits for it. `code` is None if it took longer than `limit` seconds.

    The command is killed as soon as the path `until` exists. `fsize`: bytes that a file may have.
    """
    begun = time.monotonic()
    process = os.fork()
    if process == 0:
        _become(order)
    until = os.path.join(order["cwd"], order["until"]) if "until" in order else None
    while time.monotonic() - begun < order["limit"]:
        if until is not None and os.path.exists(until):
            os.killpg(process, signal.SIGKILL)
            until = None
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return {"code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - begun}
        time.sleep(0.005)
    os.killpg(process, signal.SIGKILL)
    os.waitpid(process, 0)
    return {"code": None, "seconds": time.monotonic() - begun}


def _become(order: dict[str, Any]) -> NoReturn:
    code = 1
    try:
        os.setsid()
        if (size := order.get("fsize")) is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        for number, (name, flags) in enumerate(
            (
                (os.devnull, os.O_RDONLY),
                *((order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC) for name in ("out", "err")),
            )
        ):
            os.dup2(os.open(name, flags, 0o644), number)
        os.environ.clear()
        os.environ.update(order["environment"])
        os.chdir(order["cwd"])
        sys.argv = [order["program"], *order["arguments"]]
        module = importlib.import_module(f"aft.cli.{order['program'].removeprefix('aft-')}")
        module.main()
        code = 0
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError):
                code = code or 120  # as the interpreter does
        os._exit(code)


if __name__ == "__main__":
    main()
