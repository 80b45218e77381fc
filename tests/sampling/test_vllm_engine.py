"""vLLM's engine with a stand-in for vLLM behind AFT_VLLM_PYTHON. The worker script is the real one."""

from __future__ import annotations

import dataclasses
import os
import time

import pytest
from sampling_cases import ask, requests

from aft.errors import AftError, ConfigError
from aft.records import Prefix
from aft.run.engines import replica_devices, vllm_python, vllm_versions, vllm_versions_or_none
from aft.sampling import Decoding, VllmEngine, collect
from aft.sampling.vllm_engine import Replicas
from fake_vllm import FakeVllm, token
from limits import HUNG_AFTER
from tiny_models import tiny_model, word_tokenizer

ENDS = (1, 3)
DECODING = Decoding(max_new_tokens=6)
ROWS = 4
ALONE = Replicas([""])


@pytest.fixture(scope="module")
def tokenizer():
    return word_tokenizer()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model().config.save_pretrained(folder)
    return folder


@pytest.fixture
def fake(tmp_path, monkeypatch):
    return FakeVllm(tmp_path / "fake", monkeypatch)


@pytest.fixture
def make(model, tokenizer, fake):
    def make(replicas=ALONE, **arguments) -> VllmEngine:
        known = {"model": str(model), "max_model_len": 40, "max_num_seqs": ROWS, "dtype": "float32"}
        return VllmEngine(vllm_python(), "sample", known | arguments, tokenizer, ENDS, replicas)

    return make


def expected(request, index, size, limit=DECODING.max_new_tokens, *, seeded=True):
    tokens = []
    while len(tokens) < limit and not (tokens and tokens[-1] in ENDS):
        seed = request.seeds[index] if seeded else None
        tokens.append(token(list(request.prompt_ids), seed, len(tokens), size))
    return tuple(tokens)


def run(engine, wanted, path, decoding=DECODING):
    with engine:
        return collect(engine, wanted, decoding, path=path, description="sample")


# ---- what is sampled ----


def test_every_completion_with_its_own_seed_in_the_order_of_the_requests(make, fake, tokenizer, tmp_path):
    wanted = requests(5, (0, 1, 2))
    completions = run(make(), wanted, tmp_path / "c.jsonl")
    assert [(c.question_id, c.index) for c in completions] == [(r.question_id, i) for r in wanted for i in r.seeds]
    size = tiny_model().config.vocab_size
    for completion, (request, index) in zip(completions, [(r, i) for r in wanted for i in r.seeds], strict=True):
        assert completion.token_ids == expected(request, index, size)
        assert completion.truncated == (completion.token_ids[-1] not in ENDS)
        body = completion.token_ids if completion.truncated else completion.token_ids[:-1]
        assert completion.completion == tokenizer.decode(list(body), skip_special_tokens=True)
        assert completion.num_tokens == len(completion.token_ids) and completion.seed == request.seeds[index]
    assert {c.truncated for c in completions} == {True, False}
    assert sorted(record["seed"] for record in fake.asked) == sorted(c.seed for c in completions)
    assert all(record["temperature"] == 1.0 and record["top_p"] == 1.0 for record in fake.asked)
    assert len(fake.starts) == 1


def test_an_end_at_the_limit_is_no_cut(make, tmp_path):
    wanted = requests(20, range(20))
    completions = run(make(), wanted, tmp_path / "c.jsonl", Decoding(2))
    at_limit = [c for c in completions if c.num_tokens == 2 and c.token_ids[-1] in ENDS]
    assert at_limit and not any(completion.truncated for completion in at_limit)


def test_one_process_serves_several_decodings_and_greedy_has_no_seed(make, fake, tmp_path):
    wanted = requests(3)
    with make() as engine:
        greedy = collect(engine, wanted, Decoding(4, 0.0), path=tmp_path / "g.jsonl", description="greedy")
        collect(engine, wanted, Decoding(5, 0.7, 0.9), path=tmp_path / "s.jsonl", description="sampled")
    assert len(fake.starts) == 1
    assert [record["seed"] for record in fake.asked[:3]] == [None] * 3
    assert [c.token_ids for c in greedy] == [
        expected(r, 0, tiny_model().config.vocab_size, 4, seeded=False) for r in wanted
    ]
    assert {(r["temperature"], r["top_p"], r["max_tokens"]) for r in fake.asked[3:]} == {(0.7, 0.9, 5)}


def test_nothing_starts_if_nothing_is_missing(make, fake, tmp_path):
    wanted, path = requests(2), tmp_path / "c.jsonl"
    before = run(make(), wanted, path)
    assert run(make(), wanted, path) == before
    with make() as engine:
        assert list(engine.generate([], DECODING)) == []
    assert len(fake.starts) == 1


def test_a_call_left_before_its_end_does_not_disturb_the_next(make, tmp_path):
    wanted = requests(4, (0, 1))
    with make() as engine:
        next(engine.generate(engine.plan(wanted), DECODING))
        again = list(engine.generate(engine.plan(wanted), DECODING))
    size = tiny_model().config.vocab_size
    asked = {request.question_id: request for request in wanted}
    assert len(again) == 8
    assert all(c.token_ids == expected(asked[c.question_id], c.index, size) for c in again)


def test_ids_without_a_token_are_told(make, tokenizer, tmp_path, capsys):
    assert tiny_model().config.vocab_size >= len(tokenizer)
    holed = make()
    holed._unnamed._known = set(range(5))
    run(holed, requests(3), tmp_path / "c.jsonl")
    assert "3 completions hold an id without a token" in capsys.readouterr().err


# ---- cuts ----


def test_killed_and_resumed_is_uncut_and_only_what_is_missing_is_asked(make, fake, tmp_path):
    wanted = requests(6, (0, 1))
    uncut = run(make(), wanted, tmp_path / "uncut.jsonl")
    path, before = tmp_path / "c.jsonl", len(fake.asked)
    fake.faults(die_after=5)
    with pytest.raises(AftError) as ended:
        run(make(), wanted, path)
    told = str(ended.value)
    assert "\n" not in told and "\x1b" not in told and "File nothing" not in told
    assert f"sample.engine: vLLM of {fake.python} ended while it sampled (SIGKILL)" in told
    assert "the last words | SomeError: it broke" in told
    (part,) = tmp_path.glob("c.part-*.jsonl")
    kept = part.read_text(encoding="utf-8").splitlines()
    # those of the step in which it died were not told
    assert 0 < len(kept) <= 5
    between = len(fake.asked)
    assert between > before
    fake.faults()
    assert run(make(), wanted, path) == uncut
    assert len(fake.asked) - between == 12 - len(kept)
    assert path.read_bytes() == (tmp_path / "uncut.jsonl").read_bytes()


def test_the_processes_that_vllm_started_end_with_it(make, fake, tmp_path):
    fake.faults(child=True)
    run(make(), requests(1), tmp_path / "c.jsonl")
    (child,) = [record["child"] for record in fake.records if "child" in record]
    assert_gone(child)
    assert_gone(fake.starts[0]["pid"])


def test_it_ends_if_the_stage_fails(make, fake, tmp_path):
    with pytest.raises(KeyError), make() as engine:
        next(engine.generate(engine.plan(requests(3)), DECODING))
        raise KeyError
    assert_gone(fake.starts[0]["pid"])


def assert_gone(pid):
    deadline = time.monotonic() + HUNG_AFTER
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().rpartition(")")[2].split()[0] == "Z":
                    return  # its parent, which is not ours, has not asked for its exit code
        except (ProcessLookupError, FileNotFoundError):
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} still runs")


# ---- where it runs ----


def test_the_environment_has_nothing_of_a_launcher_and_no_telemetry(make, fake, tmp_path, monkeypatch):
    launcher = {
        **dict.fromkeys(("RANK", "LOCAL_RANK", "GROUP_RANK"), "0"),
        **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "1"),
        "MASTER_ADDR": "localhost",
        "MASTER_PORT": "1",
        "OMP_NUM_THREADS": "1",
        "ACCELERATE_MIXED_PRECISION": "no",
        "TORCHELASTIC_RUN_ID": "none",
        "FSDP_VERSION": "2",
        "CUDA_VISIBLE_DEVICES": "0,1,2,3",
    }
    for name, value in launcher.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("HF_HOME", "/kept")
    with make(Replicas(["2,3"])) as engine:
        list(engine.generate(engine.plan(requests(1)), DECODING))
    (start,) = fake.starts
    environment = start["environment"]
    assert not set(launcher) & set(environment) - {"CUDA_VISIBLE_DEVICES"}
    assert environment["CUDA_VISIBLE_DEVICES"] == "2,3" and environment["HF_HOME"] == "/kept"
    assert environment["VLLM_NO_USAGE_STATS"] == environment["DO_NOT_TRACK"] == "1"
    assert environment["VLLM_ENABLE_V1_MULTIPROCESSING"] == "0"
    assert start["path"] == [], "modules beside the worker would hide other packages"


def test_replicas_share_the_work(make, fake, tmp_path):
    wanted = requests(20, (0, 1))
    one = run(make(), wanted, tmp_path / "one.jsonl")
    two = run(make(Replicas(["0", "1"])), wanted, tmp_path / "two.jsonl")
    assert one == two
    _, *others = fake.starts
    assert sorted(start["environment"]["CUDA_VISIBLE_DEVICES"] for start in others) == ["0", "1"]
    shares = [sum(record["pid"] == start["pid"] for record in fake.asked) for start in others]
    assert sum(shares) == 40 and min(shares) >= 2 * ROWS


@pytest.mark.parametrize(("drivers", "ranks"), [((0,), 1), ((0,), 3), ((0, 2), 4), ((0, 1), 2)])
def test_ranks_without_a_replica_have_no_work(make, drivers, ranks):
    wanted = requests(5, (0, 1))
    shards = make(Replicas([""], drivers, ranks)).plan(wanted)
    keys = [[(r.question_id, i) for s in shards[rank::ranks] for r in s for i in r.seeds] for rank in range(ranks)]
    assert sorted(key for own in keys for key in own) == sorted((r.question_id, i) for r in wanted for i in r.seeds)
    assert [bool(own) for own in keys] == [rank in drivers for rank in range(ranks)]
    assert all(len(shard) <= 1 for shard in shards)


@pytest.mark.parametrize(
    ("size", "replicas", "gpus", "found"),
    [
        (1, None, "0123", ["0", "1", "2", "3"]),
        (2, None, "0123", ["0,1", "2,3"]),
        (2, None, "012", ["0,1"]),
        (2, 1, "4567", ["4,5"]),
        (1, None, "", [""]),
        (1, 2, "", ["", ""]),
    ],
)
def test_the_gpus_of_each_replica(size, replicas, gpus, found):
    assert replica_devices(size, replicas, gpus, "sample.vllm") == found


def test_too_few_gpus():
    with pytest.raises(ConfigError, match=r"sample\.vllm\.tensor_parallel_size: 8, more than the 4 GPUs here"):
        replica_devices(8, None, "0123", "sample.vllm")
    with pytest.raises(ConfigError, match=r"tensor_parallel_size: 2 times sample\.vllm\.replicas: 3, more than the 4"):
        replica_devices(2, 3, "0123", "sample.vllm")


# ---- messages ----


def message(make, wanted=None, error=AftError, **replicas):
    with pytest.raises(error) as found, make(**replicas) as engine:
        list(engine.generate(engine.plan(wanted or requests(2)), DECODING))
    told = str(found.value)
    assert "\n" not in told
    return told


def test_a_start_that_fails(make, fake):
    fake.faults(start_error="engine\ncore failed")
    told = message(make)
    assert told.startswith(
        f"sample.engine: vLLM of {fake.python} could not start (exit code 1): RuntimeError: engine core failed;"
    )
    assert "WhyError: no such head size" in told and "a source line" not in told


def test_a_start_that_fails_in_one_replica(make, fake):
    fake.faults(start_error="no memory")
    assert "RuntimeError: no memory" in message(make, replicas=Replicas(["0", "1"]))


def test_an_unknown_argument(make):
    # the stand-in takes any argument; the real LLM raises a TypeError, which reaches the user the same way
    assert "missing 1 required positional argument" in message(
        lambda **_: make_without_model(make), replicas=Replicas([""])
    )


def make_without_model(make):
    engine = make()
    del engine.arguments["model"]
    return engine


def test_a_refused_request_and_an_aborted_one_name_the_question(make, fake):
    wanted = [ask("first", [5, 6]), ask("second", [7, 8], (4,))]
    fake.faults(refuse=7)
    told = message(make, wanted)
    assert told == "sample.engine: vLLM, question second, sample 4: refused: ValueError: this prompt is refused"
    fake.faults(abort=7)
    assert message(make, wanted).startswith("sample.engine: vLLM, question second, sample 4: ended with 'abort'")


def test_a_prompt_that_is_too_long_is_found_before_anything_starts(make, fake):
    told = message(make, [ask("q0", [5]), ask("long", [5] * 35)], ConfigError)
    assert told.startswith("sample.vllm.max_model_len: 40, but question long has 35 tokens before up to 6 new ones")
    assert "make it 41" in told and not fake.starts


def test_versions(fake, tmp_path, monkeypatch):
    assert vllm_versions()["vllm"] == "9.9.9"
    monkeypatch.setenv("AFT_VLLM_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"^AFT_VLLM_PYTHON: .*nowhere could not be started: No such file"):
        vllm_versions()
    assert vllm_versions_or_none() == {"vllm": "not installed"}
    old = FakeVllm(tmp_path / "old", monkeypatch, "0.5.4")
    with pytest.raises(ConfigError, match=f"{old.python} has vLLM 0.5.4; needed: 0.6 or newer"):
        vllm_versions()
    without = FakeVllm(tmp_path / "without", monkeypatch, None)
    with pytest.raises(ConfigError, match=f"vLLM is not installed for {without.python}; install it in an environment"):
        vllm_versions()


def test_a_completion_that_continues_another_is_whole_and_no_longer_than_one_of_its_own(
    make, fake, tokenizer, tmp_path
):
    prefix = Prefix(chain=2, tokens=4)
    [plain] = requests(1)
    wanted = [dataclasses.replace(plain, prompt_ids=(*plain.prompt_ids, 5, 6, 7, 8), prefix=prefix, seeds={9: 11})]
    [found] = run(make(), wanted, tmp_path / "c.jsonl")
    new = expected(wanted[0], 9, len(tokenizer), limit=DECODING.max_new_tokens - 4)
    assert found.token_ids == (5, 6, 7, 8, *new) and found.num_tokens == len(new) <= 2 and found.prefix == prefix
    [asked] = fake.asked
    assert found.index == 9 and found.completion.startswith(tokenizer.decode([5, 6, 7, 8])), asked
