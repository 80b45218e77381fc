"""A worker's log: without what acts, without endless repetition, with an end; and what reaches the terminal."""

from __future__ import annotations

import sys

import pytest

from aft.launch.log_file import LogFile, shown_output, without_bar
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


def test_a_log_is_bounded_and_has_its_begin_and_its_end(tmp_path):
    said = [f"line {number}" for number in range(1_000)]
    lines, _ = written(tmp_path / "log", (f"{line}\n" for line in said), longest=100, longest_rest=200)
    assert lines[-1].startswith("(this log has reached its limit; the end of the output is in log.rest, ")
    assert lines[:-1] == said[: len(lines) - 1] and 12 < len(lines) < 18
    end = [(tmp_path / name).read_text().splitlines() for name in ("log.rest.before", "log.rest")]
    assert 20 < len(end[0]) < 30 and end[1] and [*end[0], *end[1]] == said[-len(end[0]) - len(end[1]) :]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log.rest", "log.rest.before"]
    written(tmp_path / "log", ["short\n"])
    assert [path.name for path in tmp_path.iterdir()] == ["log"], "the end of an earlier output is not this one's"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (" 45%|████▌     | 45/100 [00:01<00:01, 33.10it/s, loss=1]", ""),
        ("Loading weights: 100%|##########| 272/272 [00:00<00:00, 1.2kit/s]", ""),
        (
            "  0%|          | 0/3 [00:00<?, ?it/s]Traceback (most recent call last):",
            "Traceback (most recent call last):",
        ),
        (" 45%|███", ""),
        ("12it [00:01, 10.21it/s]", ""),
        *[
            (line, line)
            for line in ("  accuracy: 45%", "| 45% | 3 |", "epoch [3/10]", "at 45%|x", "", "  took [00:12]")
        ],
    ],
)
def test_progress_bars_are_no_words(line, words):
    assert without_bar(line) == words


def test_what_a_killed_process_said_last_is_no_progress_bar(tmp_path):
    program = (
        "import os, sys\nfrom tqdm import tqdm\nprint('the last words', flush=True)\n"
        "for number in tqdm(range(60), desc='loading', mininterval=0):\n"
        "    for _ in tqdm(range(2), desc='within', position=1, leave=False, mininterval=0):\n        pass\n"
        "tqdm.write('', file=sys.stderr)\nos.kill(os.getpid(), 9)\n"
    )
    worker = Worker([sys.executable, "-c", program], tmp_path / "log.txt", "1")
    worker.process.wait()
    assert worker.message().split("\n") == ["the last words", ""] and "60/60" in (tmp_path / "log.txt").read_text()


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
