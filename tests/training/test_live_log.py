"""The log that a training writes line by line: what it holds, after a cut too, and that it has an end."""

from __future__ import annotations

import json

from transformers import TrainerControl, TrainerState

from aft.training.callbacks import LiveLog
from tiny_trainers import make_trainer

OPTIONS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "logging_steps": 1}


def train(folder, resume=None):
    trainer = make_trainer(folder, **OPTIONS)
    trainer.add_callback(LiveLog(folder / "live.jsonl", lambda: {"peak_memory_bytes": 5}))
    trainer.train(resume_from_checkpoint=resume)
    return trainer.state.log_history


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_log_is_a_line_with_time_and_memory(tmp_path):
    history = train(tmp_path)
    found = lines(tmp_path / "live.jsonl")
    assert [
        {k: v for k, v in line.items() if k in entry} for line, entry in zip(found, history, strict=True)
    ] == history
    assert all((line["max_steps"], line["peak_memory_bytes"]) == (4, 5) for line in found)
    assert sorted(line["time"] for line in found) == [line["time"] for line in found]


def test_a_resumed_training_has_each_step_once(tmp_path):
    train(tmp_path)
    path = tmp_path / "live.jsonl"
    path.write_text(path.read_text() + '{"step": 1, "lo')  # a kill cut the last line
    train(tmp_path, resume=str(tmp_path / "checkpoint-2"))
    assert [line["step"] for line in lines(path) if "loss" in line] == [1, 2, 3, 4]
    train(tmp_path)
    assert [line["step"] for line in lines(path) if "loss" in line] == [1, 2, 3, 4], (
        "without a checkpoint it begins anew"
    )


def feed(log, count, keys=("loss",), done=0):
    state = TrainerState(max_steps=count, global_step=done)
    log.on_train_begin(None, state, TrainerControl())
    for step in range(done + 1, count + 1):
        for key in keys:
            state.log_history.append({"step": step, key: 1.0})
            log.on_log(None, state, TrainerControl())


def test_a_long_training_keeps_every_second_line(tmp_path):
    feed(LiveLog(tmp_path / "log", dict, most=10), 95)
    steps = [line["step"] for line in lines(tmp_path / "log")]
    assert steps == list(range(16, 95, 16))


def test_a_step_keeps_all_its_logs_or_none(tmp_path):
    for count, done in ((50, 0), (95, 33)):
        feed(LiveLog(tmp_path / "log", dict, most=10), count, ("loss", "eval_loss"), done)
        found = lines(tmp_path / "log")
        steps = [line["step"] for line in found if "loss" in line]
        assert 2 <= len(steps) < 5 and steps == [line["step"] for line in found if "eval_loss" in line]


def test_a_log_that_cannot_be_written_is_given_up_with_one_line(tmp_path, capsys):
    (tmp_path / "log").mkdir()
    feed(LiveLog(tmp_path / "log", dict), 3)
    assert capsys.readouterr().err.count("cannot be written") == 1


def test_other_ranks_write_nothing(tmp_path):
    log = LiveLog(tmp_path / "log", dict)
    state = TrainerState(is_world_process_zero=False, log_history=[{"step": 1}])
    log.on_train_begin(None, state, TrainerControl())
    log.on_log(None, state, TrainerControl())
    assert list(tmp_path.iterdir()) == []
