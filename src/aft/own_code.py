"""The user's own code, named in the configuration: a file or an importable module. Importing runs the code."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import AftError, ConfigError

# Any exception of the user's code is reported as an error that the user can fix. SystemExit is included because
# `sys.exit(0)` in that code would otherwise look like a success.
OWN_ERRORS = (Exception, SystemExit)


def load_module(name: str, key: str) -> ModuleType:
    """Import a file `my_module.py` or a dotted name. Any failure raises a `ConfigError` that begins with `key`."""
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{key}: no file {path} (looked in {Path.cwd()})")
        # The prefix keeps a file called json.py from replacing the module json.
        spec = importlib.util.spec_from_file_location(f"aft_own_{path.stem}", path)
        assert spec is not None and spec.loader is not None
        loaded = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = loaded
        spec.loader.exec_module(loaded)
        return loaded
    except AftError:
        raise
    except OWN_ERRORS as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            stem = name.rpartition(".")[2]
            raise ConfigError(
                f"{key}: no module '{name}' can be imported; a file is named with its .py: {stem}.py"
            ) from None
        raise ConfigError(f"{key}: {name} cannot be imported: {describe_error(error)}") from error


def find_source(name: str) -> Path | None:
    """The source file of a module, or None if it cannot be found without running the module or its packages."""
    if name.endswith(".py"):
        return Path(name)
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in inner:  # `find_spec` of the whole name would import the parent packages
            above = spec.submodule_search_locations if spec is not None else None
            spec = importlib.machinery.PathFinder.find_spec(part, list(above)) if above is not None else None
    except (ImportError, ValueError):  # a name such as `a..b`; `load_module` reports the reason
        return None
    path = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    return path if path is not None and path.is_file() else None


def describe_error(error: BaseException) -> str:
    """An error of the user's code as text, with the file and line that raised it."""
    if isinstance(error, SyntaxError):  # the message of a SyntaxError names its line
        return f"{type(error).__name__}: {error}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        line = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{line}"
