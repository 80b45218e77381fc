"""A worker's log: without what acts, without endless repetition, with an end; and what reaches the terminal."""

from __future__ import annotations

import sys

import pytest

from aft.launch.log_file import LogFile, shown_output
from aft.launch.worker import Worker
from planted_text import PLANTED, SECRET, is_clean


def written(path, lines, **options):
    log = LogFile(path, **options)
    news = [log.write(line) for line in lines]
    log.close()
    return path.read_text(encoding="utf-8").splitlines(), news


def test_a_repeated_line_is_counted(tmp_path):
    lines, news = written(tmp_path / "log", ["a\n", *["b\n"] * 1_000, "a\n", "a\n"])
    assert lines == [
        *("a", "b", "(the line above stands for 1,000 equal lines)"),
        *("a", "(the line above stands for 2 equal lines)"),
    ]
    assert news == [True, True, *[False] * 999, True, False]
    assert written(tmp_path / "log", ["a\n", "\n", "\n", "b\n"])[0] == ["a", "", "", "b"], "empty lines are layout"


def test_a_log_has_an_end(tmp_path):
    lines, _ = written(tmp_path / "log", (f"line {number}\n" for number in range(1_000)), longest=100)
    assert lines[-1] == "(the log has reached its limit; what follows is left out)"
    assert lines[:-1] == [f"line {number}" for number in range(len(lines) - 1)] and 12 < len(lines) < 18


def test_colours_are_left_out_and_the_rest_is_escaped():
    assert shown_output("\x1b[1;31mred\x1b[0m\x1b[2J\n") == "red\\x1b[2J\n"


TALKS = """
import sys
from aft.progress import say
for _ in range(500):
    print("the same warning")
for line in {lines!r} + ["x" * 1_500_000]:
    sys.stderr.buffer.write(line.encode("utf-8", "surrogatepass") + b"\\n")
    sys.stderr.flush()
say({said!r})
sys.exit(3)
"""


@pytest.mark.parametrize("mark", ["", "\x1esay ", "\x1eaft "])
def test_what_a_worker_writes(tmp_path, capsys, monkeypatch, mark):
    """Its output is not taken for its reports, though it begins like them."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    program = TALKS.format(lines=[mark + PLANTED, mark + "[1, 2]", mark + '{"waits": true}'], said=f"said {PLANTED}")
    worker = Worker([sys.executable, "-c", program], tmp_path / "log.txt", "1", heading=PLANTED)
    worker.process.wait()
    message = worker.message()
    log = (tmp_path / "log.txt").read_text(encoding="utf-8")
    err = capsys.readouterr().err
    assert is_clean(log) and is_clean(message) and is_clean(err)
    assert log.count("the same warning") == 1 and "(the line above stands for 500 equal lines)" in log
    assert err.startswith("said ") and len(err.splitlines()) == 1 and not worker.done
    assert worker.has_failed and worker.exit_code == 3
