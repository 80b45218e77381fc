"""The space that units will write is estimated before they begin, and a line warns where less is free."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from aft.config import load_config
from aft.launch import space
from aft.model import build_model, build_word_tokenizer
from aft.run.manifest import UnitLog
from aft.run.weights import shapes
from aft.stages.plan import Plan
from tiny_models import CONFIGS

SAVING = "training={save_strategy: steps, save_steps: 2, max_steps: 8, save_total_limit: 2}"


@pytest.fixture
def make(tiny, tmp_path):
    """Plans vft of a saved tiny model in float32, of some 30 kB."""

    def plan(*overrides):
        base = tmp_path / "base-model"
        if not base.exists():
            first = Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}"]))
            tokenizer = build_word_tokenizer(first.task.vocabulary())
            build_model("llama", CONFIGS["llama"], tokenizer, seed=0).save_pretrained(base)
            tokenizer.save_pretrained(base)
        model = f"model={{name_or_path: {base}, max_length: 64}}"
        stages = "stages=[vft,sample,label,align,evaluate]"
        return Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}", model, stages, *overrides]))

    return plan


def units(plan, *stages):
    return [unit for stage in stages for unit in plan.units(stage)]


def weights(plan):
    path = next((plan.folder.parent / "base-model").glob("*.safetensors"))
    return sum(4 * _product(shape) for _, shape, _ in shapes(path))


def _product(shape):
    total = 1
    for side in shape:
        total *= side
    return total


def test_a_training_writes_its_model_and_checkpoints_with_the_optimizer(make):
    plan = make("vft.training={}", SAVING)
    size = weights(plan)
    # two checkpoints stay, and a third is there while it is written; AdamW keeps two states
    assert space.estimate(plan, units(plan, "vft")) == (size + 3 * 3 * size, 1, 2)
    needed, models, checkpoints = space.estimate(plan, units(plan, "vft", "align"))
    assert (needed, models, checkpoints) == (3 * size + 7 * 3 * size, 3, 6)


@pytest.mark.parametrize(
    ("training", "times"),
    [
        ("{save_strategy: 'no'}", 1),
        ("{save_strategy: steps, save_steps: 2, max_steps: 8, save_total_limit: null}", 1 + 4 * 3),
        ("{save_strategy: steps, save_steps: 0.5, max_steps: 8, save_total_limit: null}", 1 + 2 * 3),
        ("{save_strategy: steps, save_steps: 5, max_steps: 8, save_total_limit: 9}", 1 + 2 * 3),
        # 24 questions in batches of 16: two steps an epoch
        ("{save_strategy: epoch, max_steps: -1, num_train_epochs: 3, save_total_limit: null}", 1 + 3 * 3),
        ("{save_strategy: steps, save_steps: 2, max_steps: 8, save_only_model: true, save_total_limit: 2}", 1 + 3),
        ("{save_strategy: steps, save_steps: 8, max_steps: 8, optim: sgd}", 1 + 1),
    ],
)
def test_what_decides_the_number_and_size_of_checkpoints(make, training, times):
    plan = make(f"vft.training={training}", "training={per_device_train_batch_size: 16}")
    assert space.estimate(plan, units(plan, "vft"))[0] == times * weights(plan)


def test_the_saved_dtype_and_an_adapter(make):
    plan = make("model.dtype=bfloat16", "vft.training={}", SAVING)
    half = weights(plan) // 2
    assert space.estimate(plan, units(plan, "vft"))[0] == half + 3 * 3 * half
    plan = make("model.lora={r: 1}", "vft.training={}", SAVING)
    assert weights(plan) < space.estimate(plan, units(plan, "vft"))[0] < 3 * weights(plan)


def test_what_a_cut_unit_has_written_is_taken_off(make):
    plan = make("vft.training={}", SAVING)
    before = space.estimate(plan, units(plan, "vft"))[0]
    unit = plan.units("vft")[0]
    UnitLog(unit.folder, plan.inputs(unit))
    (unit.folder / "model.safetensors").write_bytes(bytes(1000))
    written = sum(path.stat().st_size for path in unit.folder.iterdir())
    assert space.estimate(plan, units(plan, "vft"))[0] == before - written


def test_a_model_from_scratch_is_measured_before_it_is_made(tiny, tmp_path):
    plan = Plan(load_config(tiny, [f"output_dir={tmp_path / 'run'}"]))
    needed, models, _ = space.estimate(plan, units(plan, "pretrain"))
    assert models == 1 and 90_000 < needed < 95_000


def test_texts_count_as_long_as_they_may_be(make):
    plan = make()
    lines = (24 + 24 + 8) * 8
    assert space.estimate(plan, units(plan, "sample")) == (lines * (20 * 4 + 300), 0, 0)
    assert space.estimate(plan, units(plan, "label", "evaluate"))[0] > 0


def test_no_pool_writes_no_texts(make):
    none, some = (make(f"sample.pool_questions={count}") for count in (0, 2))
    each = space.estimate(some, units(some, "sample"))[0] - space.estimate(none, units(none, "sample"))[0]
    config = some.config.sample
    assert each == 2 * config.num_samples * (config.max_new_tokens * 4 + 300)


def test_a_line_warns_and_nothing_is_refused(make, monkeypatch, capsys):
    plan = make("vft.training={}", SAVING)
    capsys.readouterr()
    space.warn_of_space(plan, units(plan, "vft"), "vft")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=4321))
    space.warn_of_space(plan, units(plan, "vft"), "vft")
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and told.startswith("warning: vft can write up to ")
    assert f"(1 model, 2 checkpoints), but {plan.folder} has 4.32 kB free; training.save_total_limit" in told
    # a model that is not here yet has no size
    monkeypatch.setattr(space, "_cached", lambda *_: None)
    plan = make("model={name_or_path: someone/model, max_length: 64}")
    space.warn_of_space(plan, units(plan, "vft"), "vft")
    assert capsys.readouterr().err == ""
