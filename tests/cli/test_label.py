"""aft-label on a run that is not finished."""

from __future__ import annotations

from finished_run import finish_run


def test_an_audit_reads_the_rounds_that_are_there(command, tmp_path):
    plan = finish_run(tmp_path / "run")
    ran = command("label", "--config", plan.run.config, "rounds=2", "--audit", "--examples", "0")
    assert ran.code == 0, ran.err
    assert "audit of label seed 0" in ran.out and "@2" not in ran.out
