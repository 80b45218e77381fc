"""Which of the processes that share a piece of work speaks for all of them."""

from __future__ import annotations

import pytest

from aft.progress import Progress, is_first_rank, say


@pytest.mark.parametrize(("rank", "speaks"), [(None, True), ("0", True), ("1", False), ("10", False)])
def test_the_first_rank_alone_speaks(monkeypatch, capsys, rank, speaks):
    monkeypatch.delenv("AFT_PROGRESS", raising=False)
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    assert is_first_rank() == speaks
    say("a line")
    with Progress("work", 2) as progress:
        progress.update(2)
    err = capsys.readouterr().err
    assert ("a line" in err, "100 % (2/2)" in err) == (speaks, speaks)
