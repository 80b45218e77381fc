"""Code of the user's own: where its source is, without running it, and what becomes of its errors."""

from __future__ import annotations

import sys

import pytest

from aft.errors import ConfigError
from aft.own_code import find_source, load_module

RAISES = 'raise RuntimeError("this was run")\n'


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """A folder on Python's path with modules that must not be run, in a package, a package without `__init__`, both."""
    names = ("alone_of_a_test", "package_of_a_test/__init__", "package_of_a_test/inner", "bare_of_a_test/deep/inner")
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"{name}.py").write_text(RAISES)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("alone_of_a_test", "alone_of_a_test.py"),
        ("package_of_a_test", "package_of_a_test/__init__.py"),
        ("package_of_a_test.inner", "package_of_a_test/inner.py"),
        ("bare_of_a_test.deep.inner", "bare_of_a_test/deep/inner.py"),
        ("bare_of_a_test.deep", None),  # a folder has no source
        ("package_of_a_test.other", None),
        ("alone_of_a_test.inner", None),
        ("nowhere_of_a_test.inner", None),
        ("alone_of_a_test..inner", None),
        ("sys", None),
        ("", None),
    ],
)
def test_a_source_is_found_and_not_run(packages, name, file):
    before = set(sys.modules)
    assert find_source(name) == (None if file is None else packages / file)
    assert not {module for module in set(sys.modules) - before if "of_a_test" in module}


@pytest.mark.parametrize("code", ["0", "'bye'", ""])
def test_a_module_that_ends_the_process_is_an_error(tmp_path, code):
    path = tmp_path / "leaves.py"
    path.write_text(f"import sys\nsys.exit({code})\n")
    with pytest.raises(
        ConfigError, match=r"^a\.key: .*leaves\.py cannot be imported: SystemExit: .* \(leaves\.py:2\)$"
    ):
        load_module(str(path), "a.key")


def test_an_interrupt_stays_one(tmp_path):
    path = tmp_path / "interrupted.py"
    path.write_text("raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_module(str(path), "a.key")
