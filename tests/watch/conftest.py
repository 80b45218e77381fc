"""A finished run for the tests of aft-watch. Copy it before you change it."""

from __future__ import annotations

import pytest

from finished_run import finish_run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    return finish_run(tmp_path_factory.mktemp("finished") / "run").folder
