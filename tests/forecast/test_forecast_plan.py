"""`aft-train --plan`: the command, what is missing, what to change, and what a dry run shows of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from aft.config import load_config
from aft.errors import ConfigError
from aft.forecast.advice import advise, fitting_budget
from aft.forecast.memory import NF4
from aft.forecast.page import brief, render
from aft.forecast.run import RunForecast
from aft.stages.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
LLAMA_2 = (
    "plan.model={model_type: llama, hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32,"
    " num_attention_heads: 32, num_key_value_heads: 32, vocab_size: 32000}"
)
LLAMA_RUN = ROOT / "configs" / "gsm8k" / "llama2-7b.yaml"
SMALL = (
    "plan.model={hidden_size: 64, intermediate_size: 128, num_hidden_layers: 8, num_attention_heads: 2,"
    " vocab_size: 500}"
)
LENGTHS = ("plan.questions=7473", "plan.prompt_tokens=60", "plan.response_tokens=100")


@pytest.fixture
def forecast(tiny, tmp_path):
    def make(*overrides, config=None, sees_data=True):
        given = load_config(config or tiny, [f"output_dir={tmp_path / 'run'}", *overrides])
        return RunForecast(Plan(given, sees_data=sees_data), network=False)

    return make


@pytest.mark.slow
def test_the_quickstart(forecast):
    run = forecast(config=ROOT / "configs" / "quickstart.yaml")
    page = render(run, run.plan.stages())
    assert "align, 5 models" in page and "saved by the shared question" in page and "800 questions" in page
    assert "does not fit" not in page and "largest model.max_tokens_per_batch that fits" in page
    assert "hours: set plan.hardware" in page


def test_llama_2_7b_on_eight_gpus(forecast):
    run = forecast(
        *(LLAMA_2, *LENGTHS, "plan.hardware=a100", "plan.price_per_hour=2"),
        config=ROOT / "configs" / "gsm8k" / "llama2-7b.yaml",
        sees_data=False,
    )
    (vft,) = run.units(["vft"])
    # 6.74B weights in float32 and AdamW's states, divided among 8
    assert vft.memory.weights == pytest.approx(6_738_415_616 * 4 / 8)
    assert vft.memory.optimizer == pytest.approx(6_738_415_616 * 8 / 8)
    assert vft.fits and vft.shown.startswith("FSDP2 × 8, all weights, checkpointing")
    # 7,473 references of three epochs: 6ND and a quarter of that again for the recomputation
    assert vft.operations == pytest.approx(8 * 6.5e9 * 3 * 7473 * 159, rel=0.05)
    assert vft.seconds == pytest.approx(vft.operations / (0.35 * 312e12 * 8))


def test_held_out_questions_of_data_that_are_not_here(forecast):
    def evaluated(*overrides):
        given = (
            "stages=[vft,evaluate]",
            "evaluate={num_questions: null, assessment: null}",
            SMALL,
            *LENGTHS,
            *overrides,
        )
        run = forecast("data={name: gsm8k, path: null}", *given, config=LLAMA_RUN, sees_data=False)
        return run.units(["evaluate"])[0].work.sampled / 100, run.lengths.notes

    free = "evaluation of 0 test questions; data.num_test or evaluate.num_questions says better"
    count, notes = evaluated()
    assert count == 0 and free in notes
    for key in ("data.num_test", "evaluate.num_questions"):
        count, notes = evaluated(f"{key}=70")
        assert count == 70 and free not in notes
    assert evaluated("evaluate.split=validation", "data.num_validation=30")[0] == 30


def test_without_a_configuration_of_the_model_the_message_says_what_to_set(tiny, tmp_path):
    given = load_config(tiny, [f"output_dir={tmp_path}", "model={name_or_path: some/model}", "stages=[vft]"])
    with pytest.raises(ConfigError, match=r"config\.json of 'some/model' cannot be read here .* set plan\.model"):
        RunForecast(Plan(given), network=False)
    with pytest.raises(ConfigError, match=r"plan\.model: no file nowhere/config\.json"):
        RunForecast(Plan(load_config(tiny, [f"output_dir={tmp_path}", "plan.model=nowhere"])))


def test_what_does_not_fit_says_which_key_to_change_nearest_first(forecast):
    keys = ("stages=[vft]", SMALL)
    texts = ("plan.prompt_tokens=60", "plan.response_tokens=40", "training.per_device_train_batch_size=64")
    open_ended = forecast(*keys, *texts, "plan.memory_gb=1")
    (vft,) = open_ended.units(["vft"])
    assert vft.fits and advise(open_ended, vft) == []
    tight = forecast(*keys, *texts, f"plan.memory_gb={0.5 * vft.memory.total / 1e9}")
    (found,) = tight.units(["vft"])
    assert found.fits is False
    advice = advise(tight, found)
    assert advice[0].startswith("training.activation_checkpointing=true: ")
    assert advice[1].startswith("model.max_tokens_per_batch=")
    budget = int(advice[1].partition("=")[2].partition(":")[0])
    smaller = forecast(*keys, *texts, f"plan.memory_gb={tight.asked.memory_gb}", f"model.max_tokens_per_batch={budget}")
    assert smaller.units(["vft"])[0].fits
    assert fitting_budget(tight, found.work) == budget
    hopeless = forecast(*keys, *texts, "plan.memory_gb=0.0001")
    assert advise(hopeless, hopeless.units(["vft"])[0]) == [
        "nothing here fits: take GPUs with more memory, or a smaller model"
    ]


def test_sampling_that_does_not_fit_takes_fewer_rows(forecast):
    run = forecast("stages=[sample]", "plan.memory_gb=0.01", "sample.batch_size=4096")
    (sample,) = run.units(["sample"])
    rows = int(advise(run, sample)[0].partition("=")[2].partition(":")[0])
    assert sample.fits is False and rows < 4096 and run.fits(run.sampling("sample", rows))


@pytest.mark.parametrize("training", [(), ("training.bf16=true",)])
def test_weights_in_4_bits(forecast, training):
    keys = (SMALL, *LENGTHS, *training, "model.dtype=bfloat16", "model.lora={r: 2, save: adapter}")
    keys += ("model.quantization={}",)
    plain = forecast(*keys, "stages=[vft,sample]")
    (vft, sample) = plain.units(["vft", "sample"])
    count, held = plain.model.count, sum(weight.count for weight in plain.model.in_layers() if weight.linear)
    adapters = 4 * sum(weight.count for weight in plain.model.adapters)
    in_4_bits = held * NF4 + 4 * (count - held) + adapters
    assert vft.memory.weights == pytest.approx(in_4_bits) and sample.memory.weights == 2 * count
    inference = forecast(*keys, "stages=[vft,sample]", "model.quantization.inference=true")
    (sample,) = inference.units(["sample"])
    assert sample.memory.weights == pytest.approx(in_4_bits) and "4 bits" in sample.shown


def test_the_advice_of_4_bits_names_keys_that_a_run_takes(forecast):
    keys = ("stages=[vft]", SMALL, "plan.prompt_tokens=60", "plan.response_tokens=40")
    whole = forecast(*keys).units(["vft"])[0].memory.total
    run = forecast(*keys, f"plan.memory_gb={0.9 * whole / 1e9}")
    line = advise(run, run.units(["vft"])[0])[-1]
    assert line.startswith("model.lora='{r: 16, target_modules: all-linear}' model.quantization={}")
    forecast(*keys, "model.lora={r: 16, target_modules: all-linear}", "model.quantization={}")


@pytest.mark.parametrize(
    ("keys", "tflops"),
    [
        ((), 67.0),
        (("model.dtype=bfloat16",), 989.0),
        (("training.bf16=true",), 989.0),
        (("vft.training={bf16: true}",), 989.0),
        (("align.training={bf16: true}",), 67.0),
        (("model.dtype=bfloat16", "plan.hardware=v100"), 15.7),
    ],
)
def test_hours_are_those_of_the_types_that_are_multiplied(forecast, keys, tflops):
    (vft,) = forecast(SMALL, *LENGTHS, "stages=[vft]", "plan.hardware=h100", *keys).units(["vft"])
    assert vft.operations / vft.seconds == pytest.approx(0.35e12 * tflops)


def test_scores_take_the_hours_of_their_own_type(forecast):
    keys = (SMALL, *LENGTHS, "stages=[vft,sample,align]", "plan.hardware=h100")
    slow, fast = (forecast(*keys, *more).units(["align"])[-1] for more in ((), ("model.inference_dtype=bfloat16",)))
    assert slow.work.scored and slow.seconds > fast.seconds


def test_gpus_without_a_process_shorten_nothing(forecast):
    keys = (SMALL, *LENGTHS, "stages=[vft,sample]", "plan.hardware=h100", "vft.training={}", "training.bf16=true")
    one, idle = forecast(*keys), forecast(*keys, "plan.gpus=8")
    assert [unit.seconds for unit in idle.units(["vft", "sample"])] == [
        unit.seconds for unit in one.units(["vft", "sample"])
    ]
    assert "one process computes without launch.config, so 7 of 8 GPUs stand idle in vft" in idle.notes
    shared = forecast(*keys, "plan.gpus=8", "launch.config=multi-gpu")
    assert shared.units(["vft"])[0].seconds == pytest.approx(one.units(["vft"])[0].seconds / 8)
    # vLLM takes all of them
    vllm = forecast(*keys, "plan.gpus=8", "sample.engine=vllm")
    alone = forecast(*keys, "sample.engine=vllm")
    assert vllm.units(["sample"])[0].seconds == pytest.approx(alone.units(["sample"])[0].seconds / 8)


def test_a_dry_run_has_a_line_of_it(forecast):
    assert brief(forecast().plan).startswith("memory: ")


def test_the_command_prints_and_ends(command, tiny, tmp_path):
    ran = command("train", "--config", tiny, f"output_dir={tmp_path / 'run'}", "--plan", "--stage", "vft")
    assert ran.code == 0 and "GB of one process at its peak" in ran.out
    assert "other ways for vft" in ran.out and not (tmp_path / "run").exists()


@pytest.mark.parametrize("quantization", [(), ("model.quantization={}",)])
def test_the_command_forecasts_adapters(command, tiny, tmp_path, quantization):
    given = ("--config", tiny, f"output_dir={tmp_path / 'run'}", "model.lora={r: 2, save: merged}", *quantization)
    ran = command("train", *given, "--plan", "--stage", "vft")
    what = "QLoRA" if quantization else "LoRA"
    assert ran.code == 0 and f"one process, {what}," in ran.out, ran.err
    dry = command("train", *given, "plan.memory_gb=1", "--dry-run")
    assert dry.code == 0 and f"(one process, {what}) holds" in dry.out, dry.err
