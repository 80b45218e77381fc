"""Code of the user's own, named in the configuration: a file, or a module that Python can import. Importing runs it."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from .errors import AftError, ConfigError

# whatever the user's code raises is the user's to mend; `sys.exit(0)` there must not look like a success
OWN_ERRORS = (Exception, SystemExit)


def load_module(name: str, key: str) -> ModuleType:
    """The module of a file `my_module.py` or of a dotted name. A `ConfigError` for any failure begins with `key`."""
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"{key}: no file {path} (looked in {Path.cwd()})")
        # under a name of its own: a file called json.py must not stand for another module
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
    """The file of a module's code, as far as it can be found without running it or a package above it."""
    if name.endswith(".py"):
        return Path(name)
    top, *inner = name.split(".")
    try:
        spec = importlib.util.find_spec(top)
        for part in inner:  # `find_spec` of the whole name would import the packages
            above = spec.submodule_search_locations if spec is not None else None
            spec = importlib.machinery.PathFinder.find_spec(part, list(above)) if above is not None else None
    except (ImportError, ValueError):  # a name such as `a..b`; `load_module` says why
        return None
    path = Path(spec.origin) if spec is not None and spec.has_location and spec.origin else None
    return path if path is not None and path.is_file() else None


def describe_error(error: BaseException) -> str:
    """An error of the user's code with the line it came from."""
    if isinstance(error, SyntaxError):  # which names its own line
        return f"{type(error).__name__}: {error}"
    trace, line = error.__traceback__, ""
    while trace is not None:
        line = f" ({Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno})"
        trace = trace.tb_next
    return f"{type(error).__name__}: {error}{line}"
