"""Which of the processes that share a piece of work speaks for all of them."""

from __future__ import annotations

import json

import pytest

from aft.progress import Progress, claim_failure, is_first_rank, say


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


def test_no_secret_is_in_what_torchrun_prints_of_a_failure(monkeypatch, tmp_path):
    secret = "0123456789abcdefgh"
    monkeypatch.setenv("SOME_API_KEY", secret)
    told = tmp_path / "attempt" / "0" / "error.json"
    told.parent.mkdir(parents=True)
    monkeypatch.setenv("TORCHELASTIC_ERROR_FILE", str(told))
    assert claim_failure(f"first\n{secret} \x1b[0m")
    assert secret not in told.read_text()
    assert json.loads(told.read_text())["message"]["message"] == "first\n*** \\x1b[0m"
