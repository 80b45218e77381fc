"""The configurations that aft-init prints."""

from __future__ import annotations

import pytest

from aft.config import load_config
from aft.config.starter import TASK_NAMES, starter
from aft.launch.preflight import check_run
from aft.tasks import TASKS


def test_every_task_has_one():
    assert set(TASK_NAMES) == set(TASKS)


@pytest.mark.parametrize("chat", [False, True], ids=["text", "chat"])
@pytest.mark.parametrize("model", [None, "my/model", "runs/base: 'odd' #1"])
@pytest.mark.parametrize("task", TASK_NAMES)
def test_it_loads(tmp_path, task, model, chat):
    path = tmp_path / "run.yaml"
    path.write_text(starter(task, model, chat=chat), encoding="utf-8")
    config = load_config(path)
    assert config.data.name == task
    if model is not None:
        assert (config.model.name_or_path, config.prompt.chat) == (model, chat)
    assert check_run(config, {"model"} if model else (), sees_data=False) == []
    assert "{task}" not in path.read_text() and "{model}" not in path.read_text()


def test_aft_init_prints_it(command, tmp_path):
    assert command("init", "gsm8k").out == starter("gsm8k")
    assert command("init").out == starter("jsonl")
    assert command("init", "math", "--model", "my/model", "--chat").out == starter("math", "my/model", chat=True)
    ran = command("init", "gsm")
    assert ran.code == 2
    assert ran.err == (
        f"aft: error: aft-init: TASK: got 'gsm', allowed: {', '.join(TASK_NAMES)}. Did you mean 'gsm8k'?\n"
    )
