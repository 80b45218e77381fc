"""The benchmarks measure what they say: one loss in all variants, real lengths, honest tables. Nothing is timed."""

from __future__ import annotations

import importlib.util
import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import groups
import page
import real
import rivals
import run
import sampling_rows
import scaling
import serving
import step
import timing
import utilisation
from aft.scoring.packing import pack
from bars import Bar
from groups import Lengths
from shapes import LLAMA_1B, Shape, build, clear_gradients, floor_operations, view
from shared_data import shared_path
from timing import Settings, Summary
from variants import VARIANTS, Engine, check_agreement, plain_rows

TINY = Shape("tiny", hidden=16, layers=2, heads=2, kv_heads=1, ffn=24, vocabulary=40)
SMALL_GROUPS = [Lengths(5, (4, 2, 7)), Lengths(3, (6, 6, 3))]


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Tensors of this size gain nothing by a second one, and lose much where tests run side by side."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- groups ----


def test_real_groups_have_the_lengths_of_gsm8k():
    shared_path("data", "gsm8k", "example_model_solutions_first_half.jsonl")
    found, source = groups.load_groups()
    assert source.startswith("GSM8K") and len(found) == 660
    assert {len(group.responses) for group in found} == {7}
    assert statistics.mean(group.prompt for group in found) == pytest.approx(80, abs=2)
    assert statistics.mean(length for group in found for length in group.responses) == pytest.approx(95, abs=2)
    assert statistics.mean(group.unique for group in found) == pytest.approx(736, rel=0.02)


def test_generated_groups_have_about_the_same_lengths():
    found = groups.generated_groups(2000)
    assert {len(group.responses) for group in found} == {7}
    assert statistics.mean(group.prompt for group in found) == pytest.approx(80, rel=0.05)
    assert statistics.mean(length for group in found for length in group.responses) == pytest.approx(95, rel=0.05)
    assert max(max(group.responses) for group in found) == 1500  # an endless one
    assert groups.generated_groups(5) == found[:5]


def test_without_the_file_lengths_are_generated(tmp_path, monkeypatch):
    monkeypatch.setenv("AFT_SHARED", str(tmp_path))
    groups.load_groups.cache_clear()
    try:
        found, source = groups.load_groups()
    finally:
        groups.load_groups.cache_clear()
    assert source.startswith("generated") and found == tuple(groups.generated_groups(660))


def test_four_samples_become_six_by_the_next_longer_question():
    counted = [(10, (3, 1, 2, 3, 4)), (20, (9, 5, 6, 7, 8)), (30, (5, 91, 92, 93, 94))]
    found = groups.with_six_samples(counted, int)
    assert found == [
        (10, (3, 1, 2, 3, 4, 91, 92)),
        (20, (9, 5, 6, 7, 8, 1, 2)),  # the longest begins again
        (30, (5, 91, 92, 93, 94, 5, 6)),
    ]


def test_items_and_counts_agree_with_the_packed_row():
    items = groups.alignment_items(SMALL_GROUPS, 40)
    assert [len(item.prompt_ids) for item in items] == [5, 3]
    assert [[len(response) for response in item.responses] for item in items] == [[4, 2, 7], [6, 6, 3]]
    assert items[0].supervised == [True, False, False] and items[0].ratings == [None, 1.0, 0.0]
    batch = pack(items, groups.PAD_ID, layout="shared")
    assert batch["input_ids"].numel() == sum(group.unique for group in SMALL_GROUPS)
    assert len(batch["targets"]) == sum(group.predicted for group in SMALL_GROUPS)
    assert plain_rows(items)["input_ids"].numel() == groups.naive_tokens(SMALL_GROUPS) == 6 * 12


def test_preference_items_are_four_right_and_three_wrong():
    (item,) = groups.preference_items([Lengths(3, (2,) * 7)], 40)
    assert item.ratings == [1.0] * 4 + [0.0] * 3 and not any(item.supervised)


def test_typical_batches_lie_at_the_quantiles_of_what_padding_costs():
    found = groups.generated_groups(200)
    low, middle, high = (groups.padding_ratio(batch) for batch in groups.typical_batches(found, 4, 3))
    everything = [groups.padding_ratio(batch) for batch in groups.typical_batches(found, 4, 200)]
    assert low < middle < high
    assert middle == pytest.approx(statistics.median(everything), rel=0.01)


def test_micro_batches_keep_to_the_budget_and_split_no_group(monkeypatch):
    monkeypatch.setattr(scaling, "MAX_TOKENS", 3000)
    found = groups.generated_groups(30)
    batches = scaling.micro_batches(found, 40)
    assert sorted(item.question_id for batch in batches for item in batch) == sorted(f"q{n}" for n in range(30))
    read = [pack(batch, groups.PAD_ID, layout="shared")["input_ids"].numel() for batch in batches]
    assert all(tokens <= 3000 for tokens in read) and sum(read) == sum(group.unique for group in found)


# ---- operations ----


def test_attention_pairs_are_counted_one_by_one():
    group = Lengths(3, (4, 2))
    pairs = sum(place + 1 for place in range(3))  # within the prompt
    for length in (4, 2):
        pairs += sum(3 + place + 1 for place in range(length - 1))  # each token: the prompt, and its response so far
    assert group.attention_pairs == pairs


def test_floor_operations_of_a_typed_case():
    group = Lengths(3, (4, 2))
    layer = 16 * 16 * 2 + 16 * 8 * 2 + 3 * 16 * 24  # queries and output, keys and values of one head, three of the MLP
    forward = 2 * 2 * layer * 7 + 2 * 4 * 16 * group.attention_pairs + 2 * 16 * 40 * 6
    assert floor_operations(TINY, [group]) == 3 * forward


def test_weights_are_those_of_the_built_model():
    model = build(TINY, torch.float32, "cpu")
    matrices = sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)
    assert TINY.weights == matrices
    assert LLAMA_1B.weights == pytest.approx(1.236e9, rel=0.01)  # Llama 3.2 1B


# ---- variants ----


def test_a_view_shares_weights_and_gradients_and_nothing_else():
    model = build(TINY, torch.float32, "cpu")
    other = view(model)
    assert [id(parameter) for parameter in model.parameters()] == [id(parameter) for parameter in other.parameters()]
    other.forward = None
    assert model.forward is not None
    next(other.parameters()).grad.fill_(1)
    clear_gradients(model)
    assert not any(parameter.grad.any() for parameter in other.parameters())


def test_every_variant_computes_the_same_step():
    model = build(TINY, torch.float32, "cpu")
    items = groups.alignment_items([*SMALL_GROUPS, *groups.generated_groups(1)], TINY.vocabulary)
    losses, gradients = {}, {}
    for name, variant in VARIANTS.items():
        engine = Engine(model, variant)
        engine.clear()
        losses[name] = engine.step(engine.collate(items)).item()
        gradients[name] = torch.cat([parameter.grad.flatten() for parameter in model.parameters()])
    check_agreement(losses, torch.float32)
    for name, gradient in gradients.items():
        assert (gradient - gradients["naive"]).norm() <= 1e-5 * gradients["naive"].norm(), name


def test_variants_that_disagree_are_not_timed():
    with pytest.raises(SystemExit, match="disagree"):
        check_agreement({"naive": 1.0, "shared": 1.001}, torch.float32)
    with pytest.raises(SystemExit, match="disagree"):
        check_agreement({"naive": 1.0, "shared": float("nan")}, torch.bfloat16)


# ---- measuring ----


def test_turns_begin_elsewhere_each_time():
    assert timing.in_turn(["a", "b", "c"], 4) == ["b", "c", "a"]


def test_ratios_are_formed_measurement_by_measurement():
    assert timing.ratios([2.0, 8.0, 3.0], [1.0, 2.0, 3.0]) == Summary(2.0, 1.0, 4.0)


@pytest.mark.skipif(sys.platform != "linux", reason="resets the high-water mark of a Linux process")
def test_added_memory_is_the_peak_and_not_what_is_left():
    def run_and_drop() -> None:
        torch.ones(25_000_000)

    assert timing.added_memory(run_and_drop, "cpu") == pytest.approx(100e6, rel=0.05)


# ---- the page ----


def tiny_figures() -> dict:
    cases = [step.Case("tiny", TINY, "float32", (step.NAIVE, step.SHARED), sizes=(4,))]
    return json.loads(json.dumps(step.measure(Settings(repeats=1), cases)))


def test_figures_go_to_the_page_and_the_file_and_leave_the_rest_alone(tmp_path):
    figures = tiny_figures()
    text = "Prose.\n<!-- measured: summary -->\nold\n<!-- end -->\nMore.\n<!-- measured: step -->\n<!-- end -->\nEnd.\n"
    (tmp_path / page.TEXT).write_text(text)
    (tmp_path / page.JSON).write_text('{"schema": 1, "parts": {"other": {"figures": 1}}}')
    page.store(tmp_path, "step", Settings(), figures, 1.0)
    page.write(tmp_path)

    content = json.loads((tmp_path / page.JSON).read_text())["parts"]
    assert content["other"] == {"figures": 1} and content["step"]["figures"] == figures
    assert {"date", "command", "machine", "versions", "revision"} <= content["step"].keys()
    written = (tmp_path / page.TEXT).read_text()
    assert written.startswith("Prose.\n") and "\nMore.\n" in written and written.endswith("<!-- end -->\nEnd.\n")
    assert "old" not in written and "question once" in written
    page.write(tmp_path)
    assert (tmp_path / page.TEXT).read_text() == written


def test_bars_are_met_missed_or_not_measured():
    def bar(sense: str, found: Summary | None) -> str:
        return Bar("speed", sense, 2, found).verdict

    assert bar("≥", Summary(2.0, 1.0, 3.0)) == "met"
    assert bar("≥", Summary(1.99, 1.0, 3.0)) == "**missed**"
    assert bar("≤", Summary(2.01, 1.0, 3.0)) == "**missed**"
    assert bar("≥", None) == "not measured"
    assert Bar("speed", "≥", 2, Summary(2.5, 2.0, 3.0)).cells() == ["speed", "≥ 2×", "2.50× (2.00–3.00)", "met"]


def test_what_no_gpu_measured_says_so():
    rows = [line for line in page.section("summary", {}).splitlines() if line.startswith("| one GPU")]
    assert len(rows) == 6 and all(row.endswith("| not measured | not measured |") for row in rows)
    assert page.section("step-gpu", {}) == "Not measured."


def test_gpu_bars_compare_like_with_like():
    def case(**taken: float) -> dict:
        variants = {name.replace("_", "-"): {"seconds": value} for name, value in taken.items()}
        variants.setdefault("naive", {"failed": step.OUT_OF_MEMORY})
        return {"matrix_rate": 100.0, "batches": [{"groups": 4, "floor_operations": 60.0, "variants": variants}]}

    figures = {"cases": [case(naive=3.0, kept=1.0), case(naive_recomputed=8.0, recomputed=4.0, shared=1.0)]}
    faster, share, larger_faster, larger_share = step.gpu_bars(figures)
    assert (faster.found.median, faster.verdict) == (3.0, "met")
    assert (share.found.median, share.verdict) == (60.0, "met")
    assert (larger_faster.found.median, larger_faster.verdict) == (2.0, "**missed**")  # not against `shared`
    assert (larger_share.found.median, larger_share.verdict) == (60.0, "met")


def test_a_variant_that_runs_out_of_memory_leaves_the_others_their_figures(monkeypatch):
    def step_or_fail(engine: Engine, batch: object) -> torch.Tensor:
        if engine.variant.layout is None and len(batch.whole["supervised"]) > 7:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain_step(engine, batch)

    plain_step = Engine.step
    monkeypatch.setattr(Engine, "step", step_or_fail)
    figures = tiny_figures()
    (batch,) = figures["cases"][0]["batches"]
    assert batch["variants"]["naive"] == {"failed": "out of memory"} and "seconds" in batch["variants"]["shared"]
    assert "| padded to the longest, whole logits | out of memory |" in step.render(figures)
    assert [bar.verdict for bar in step.bars(figures)] == ["not measured"] * 3


def test_sampling_is_judged_by_its_default():
    def row(variant: str, ratio: float) -> dict:
        spread = {"median": 10.0, "min": 9.0, "max": 11.0}
        return {"name": "4 prompts", "variant": variant, "prompts": 4, "tokens_per_second": spread, "ratio": ratio}

    figures = {"rows": [row("ours, static", 9.0), row(sampling_rows.DEFAULT, 1.5)]}
    assert [bar.verdict for bar in sampling_rows.bars(figures)] == ["**missed**", "not measured"]
    assert "| 4 prompts | ours, continuous | 10 (9–11) | 1.50× |" in sampling_rows.render(figures)


def test_the_ceiling_of_sharing_is_a_ratio_of_tokens():
    assert real.ceiling(10, 5, 1) == 1
    assert real.ceiling(90, 90, 7) == 7 * 180 / (90 + 7 * 90)
    (item,) = groups.alignment_items([Lengths(90, (91,) * 7)], 40)
    read = {layout: pack([item], 0, layout=layout)["input_ids"].numel() for layout in ("packed", "shared")}
    assert read["packed"] / read["shared"] == real.ceiling(90, 90, 7)


def test_the_real_part_is_measured_on_any_model_and_told_against_its_ceiling(monkeypatch):
    monkeypatch.setattr(real, "MOST_NEW", 4)
    model = build(TINY, torch.float32, "cpu")
    lengths = [Lengths(20 + number, (9, 5, 7, 8)) for number in range(4)]
    texts = real.Texts(groups.alignment_items(lengths, TINY.vocabulary), "made")
    sampling = real.measure_sampling(model, texts.items, Settings(repeats=1))
    model.train()
    engines = {name: Engine(model, variant) for name, variant in real.STEPS.items()}
    cases = [
        real.Case("gsm8k", "float32", 1, tuple(real.STEPS.values())),
        real.Case("gsm8k", "bfloat16", 1, (real.REPEATED, real.SHARED)),
    ]
    before = [parameter.clone() for parameter in model.parameters()]
    figures = {
        "native_bfloat16": False,
        "texts": {"gsm8k": texts.figures()},
        "cases": [real.measure_case(engines, texts, case, Settings(repeats=1)) for case in cases],
        "optimizer": real.measure_optimizer(model, Settings(repeats=1)),
        "profile": real.measure_profile(engines, texts.items[:2], Settings()),
        "sampling": sampling,
        "dpo": None,
    }
    assert all(torch.equal(one, other) for one, other in zip(before, model.parameters(), strict=True))
    (batch,) = figures["cases"][0]["batches"]
    read = {name: row["processed"] for name, row in batch["variants"].items()}
    assert batch["ceiling"] == read["packed"] / read["shared"] and read["naive"] >= read["packed"]
    assert 1 < batch["operations"] < batch["ceiling"]  # the head is the same for both
    batch["variants"] = {
        name: {**row, "seconds": taken, "processor": taken}
        for (name, row), taken in zip(batch["variants"].items(), (8.0, 3.0, 2.0), strict=True)
    }
    share = 1.5 / batch["ceiling"]
    assert real.bars(figures)[0].found == Summary(share, share, share)
    text = real.render(json.loads(json.dumps(figures)))
    assert "4.00×" in text and f"{share:.2f}" in text and "TRL is not installed" in text and "imitated" in text
    assert f"1.50× of at most {batch['ceiling']:.2f}×" in real.headline(figures)
    kinds = figures["profile"]["shared"]["kinds"]
    assert all(kinds[kind] > 0 for kind in ("products", "head", "attention", "softmax"))


def test_without_the_checkpoint_the_real_part_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("AFT_SMOLLM2", str(tmp_path))
    assert "make smollm2" in real.missing() and str(tmp_path) in real.missing()


def test_without_the_files_real_texts_are_generated_and_say_so(tmp_path, monkeypatch):
    monkeypatch.setenv("AFT_SHARED", str(tmp_path))
    for make in (real.gsm8k, real.ecqa):
        texts = make(None, 40)
        assert "files are absent" in texts.source and {len(item.responses) for item in texts.items} == {7}


def test_scaling_measures_the_same_groups_in_every_step_size():
    figures = scaling.measure(Settings(repeats=1), TINY, samples=(1, 2), groups=(1, 2, 4), tokens=500)
    by_groups = [setting for setting in figures["settings"] if setting["axis"] == "groups"]
    assert len({setting["unique"] for setting in by_groups}) == 1
    assert [setting["groups"] for setting in by_groups] == [4, 4, 4]
    assert [setting["micro_batches"] for setting in by_groups] == [4, 2, 1]
    assert "k = 2" in scaling.render(figures) and len(scaling.bars(figures)) == 2


# ---- rivals ----


def test_rivals_are_told_against_their_ceiling_with_their_utilisation(monkeypatch):
    monkeypatch.setenv(utilisation.OVERRIDE, "0.5")
    monkeypatch.setattr(rivals, "load_groups", lambda: (groups.generated_groups(20), "generated"))
    figures = rivals.measure(Settings(repeats=2), [rivals.Case("tiny", TINY, "float32")])
    (case,) = figures["cases"]
    assert case["left_out"] == "flash-pref needs CUDA" and case["peak"] == 0.5e12
    for batch in case["batches"]:
        batch["variants"]["packed"]["seconds"], batch["variants"]["shared"]["seconds"] = 1.5, 1.0
    assert rivals.speed(case, "packed").median == 1.5
    limit = statistics.median(rivals.ceilings(case))
    assert 1.3 < limit < 2 and rivals.share_of_ceiling(case).high == pytest.approx(1.5 / min(rivals.ceilings(case)))
    batch = case["batches"][0]
    operations = utilisation.step_operations(TINY, batch["unique"], batch["predicted"])
    assert operations == 6 * (TINY.body_weights * batch["unique"] + TINY.head_weights * batch["predicted"])
    assert rivals.utilisation(case, "shared").low <= operations / 0.5e12 <= rivals.utilisation(case, "shared").high
    text = rivals.render(figures)
    assert "33–39 %" in text and "flash-pref was left out: flash-pref needs CUDA." in text
    assert len(rivals.gpu_bars(None)) == 2


@pytest.mark.slow
def test_the_step_for_flash_pref_without_it_is_ours(monkeypatch):
    monkeypatch.delenv("AFT_FLASH_PREF_PYTHON", raising=False)
    batches = [[Lengths(5, (4, 2, 7)), Lengths(3, (6, 6, 3))]]
    found = rivals.with_flash_pref(TINY, "float32", batches, Settings(), shared=False)
    engine = Engine(build(TINY, torch.float32, "cpu"), VARIANTS["shared"])
    items = groups.alignment_items(batches[0], TINY.vocabulary)
    assert found["batches"][0]["loss"] == pytest.approx(engine.step(engine.collate(items)).item(), rel=1e-5)


def test_without_flash_pref_the_reason_is_told(monkeypatch):
    def reason() -> str:
        return rivals.with_flash_pref(TINY, "float32", [[Lengths(5, (4, 2))]], Settings("cuda"))["left_out"]

    monkeypatch.delenv("AFT_FLASH_PREF_PYTHON", raising=False)
    assert reason().startswith("no AFT_FLASH_PREF_PYTHON names an interpreter")
    monkeypatch.setenv("AFT_FLASH_PREF_PYTHON", sys.executable)
    if importlib.util.find_spec("flash_pref") is None:
        assert reason().startswith(f"{sys.executable} has no flash_pref")
    monkeypatch.setenv("AFT_FLASH_PREF_PYTHON", "/no/such/python")
    assert reason().startswith("/no/such/python has no answer: ")


@pytest.mark.parametrize(
    ("name", "dtype", "rate"),
    [
        ("NVIDIA H200", "bfloat16", 989e12),
        ("NVIDIA H100 PCIe", "bfloat16", 756e12),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989e12),
        ("NVIDIA L40S", "bfloat16", 362e12),
        ("NVIDIA H200", "float32", 7.0),
        ("of tomorrow", "bfloat16", 7.0),
    ],
)
def test_the_peak_is_the_data_sheet_s_or_measured(monkeypatch, name, dtype, rate):
    monkeypatch.delenv(utilisation.OVERRIDE, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: name)
    monkeypatch.setattr(utilisation, "matrix_rate", lambda *_: 7.0)
    found, source = utilisation.peak_rate("cuda", getattr(torch, dtype))
    assert found == rate and ("measured" in source) == (rate == 7.0)
    monkeypatch.setenv(utilisation.OVERRIDE, "12")
    assert utilisation.peak_rate("cuda", torch.bfloat16) == (12e12, "AFT_PEAK_TFLOPS=12")


def test_serving_says_why_an_engine_is_left_out(monkeypatch):
    monkeypatch.delenv("AFT_VLLM_PYTHON", raising=False)
    monkeypatch.setattr(serving, "load_groups", lambda: (groups.generated_groups(20), "generated"))
    figures = serving.measure(Settings(repeats=1), TINY, prompts=2, limit=3)
    tokens, taken = figures["engines"][serving.OURS]["runs"][0]
    assert 0 < tokens <= 2 * serving.SAMPLES * 3 and taken > 0
    assert "vLLM was left out: " in serving.render(figures)


def test_the_parts_of_a_gpu_have_their_place_on_the_page():
    text = (run.ROOT / "docs" / page.TEXT).read_text(encoding="utf-8")
    assert all(f"<!-- measured: {name}-gpu -->" in text for name in page.GPU_PARTS)


def test_a_smoke_run_leaves_the_page_alone(monkeypatch):
    asked = []
    monkeypatch.setattr(
        run.subprocess, "run", lambda command, **_: asked.append(command) or SimpleNamespace(returncode=0)
    )
    monkeypatch.setattr(sys, "argv", ["run.py", "--smoke"])
    assert run.main() == 0
    assert asked[0][2:4] == ["--smoke", "--output"] and not Path(asked[0][4]).is_relative_to(run.ROOT)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_gpu_command_says_so_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--device", "cuda"])
    assert run.main() == 1
    assert capsys.readouterr().err == "no CUDA device here: the GPU's figures stay as they are\n"


def test_the_page_is_what_the_figures_say():
    docs = run.ROOT / "docs"
    text = (docs / page.TEXT).read_text(encoding="utf-8")
    parts = json.loads((docs / page.JSON).read_text(encoding="utf-8"))["parts"]
    assert text == page.fill(text, parts), "run: python benchmarks/run.py --tables"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_trl_and_we_score_alike(monkeypatch):
    pytest.importorskip("trl")
    import trl_dpo

    monkeypatch.setattr(trl_dpo, "load_groups", lambda: (groups.generated_groups(20), "generated"))
    figures = trl_dpo.measure(Settings(repeats=1), TINY)
    assert "12 pairs" in trl_dpo.render(figures)
