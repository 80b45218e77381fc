"""Models are pushed to a hub of the tests: a real client, a real server, real runs."""

from __future__ import annotations

import json

import pytest
from huggingface_hub import ModelCard

from adapter_runs import PEFT_WARNING, plan_of, run_unit
from aft.errors import AftError
from aft.launch.push import describe_pushes, push_models
from aft.run.manifest import UnitLog
from aft.stages.context import Stage
from aft.stages.evaluate import run_evaluate
from aft.stages.plan import Plan
from hub_server import TOKEN, hub_server

METHODS = ("rft", "bcl")  # of the tiny run


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """The hub of the tests, with a token in the environment and none in a file."""
    with hub_server() as server:
        # what HF_ENDPOINT and HF_HOME set when the library is imported
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.address)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        yield server


@pytest.mark.slow
def test_a_run_is_pushed_through_the_command(command, tiny, tmp_path, hub, monkeypatch):
    run = tmp_path / "run"
    arguments = ["--config", str(tiny), f"output_dir={run}", "hub.repo=me/tiny"]
    repos = {f"me/tiny-{name}-seed0" for name in METHODS}
    planned = command("train", *arguments, "--dry-run")
    assert planned.code == 0 and all(f"{repo} (private)" in planned.out for repo in repos)
    assert "but no token is here" in planned.out
    # without a token the run is finished, and one line for each model says what is missing
    ended = command("train", *arguments)
    assert ended.code == 1 and (run / "report.md").exists() and not hub.repos
    assert "warning: hub: no token is here" in ended.err
    assert ended.err.count("was not pushed: the hub takes no token that is here (HTTP 401)") == len(METHODS)
    assert "Traceback" not in ended.err and "The run is finished" in ended.err
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    ended = command("train", *arguments)
    assert ended.code == 0, ended.err
    assert set(hub.repos) == repos and all(repo["private"] for repo in hub.repos.values())
    assert command("verify", str(run)).code == 0


def finished(folder, save, **changes):
    """A run of VFT that is trained and evaluated."""
    evaluate = {"assessment": None, "max_new_tokens": 8, "models": ["vft"]}
    hub = {"repo": "me/tiny", **changes}
    plan = plan_of(folder, save, stages=["vft", "evaluate"], evaluate=evaluate, hub=hub)
    [unit] = plan.units("evaluate")
    if not unit.manifest.exists():
        run_unit(plan, "vft")
        run_evaluate(Stage(plan, cpu=True), unit, UnitLog(unit.folder, plan.inputs(unit)))
    return Plan(plan.config)


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_a_model_is_pushed_once_with_its_metrics(tmp_path, hub, monkeypatch, capsys):
    plan, repo = finished(tmp_path, "both"), "me/tiny-vft-seed0"
    with pytest.raises(AftError, match=r"no token that is here \(HTTP 401\).*\nThe run is finished"):
        push_models(plan)
    assert describe_pushes(plan)[1].strip().startswith("but no token is here")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert describe_pushes(plan) == [f"push    {'vft seed 0':<40}{repo} (private)"]
    push_models(plan)
    assert list(hub.repos) == [repo] and hub.repos[repo]["private"]
    files, folder = hub.repos[repo]["files"], plan.units("vft")[0].folder
    assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    assert {"config.json", "generation_config.json", "tokenizer.json", "README.md"} < set(files)
    assert not [
        name for name in files if name.startswith("adapter/") or name in ("trainer_state.json", "manifest.json")
    ]
    card = ModelCard(files["README.md"].decode())
    metrics = json.loads((plan.units("evaluate")[0].folder / "metrics.json").read_text())
    [accuracy] = [result for result in card.data.eval_results if result.metric_name == "task accuracy"]
    assert accuracy.metric_value == metrics["task_accuracy"]["value"]
    assert (accuracy.metric_type, accuracy.dataset_split, accuracy.dataset_name) == ("accuracy", "test", "arithmetic")
    assert card.data.library_name == "transformers" and card.data.license is None and "lora" in card.data.tags
    assert str(tmp_path) not in files["README.md"].decode() and "## Results on the test split" in card.text
    # nothing has changed: nothing is pushed
    capsys.readouterr()
    push_models(plan)
    assert f"hub: {repo} is up to date" in capsys.readouterr().err and len(hub.repos[repo]["commits"]) == 1
    # a file of an earlier push that the model no longer has goes; others of the repository stay
    record = plan.run.hub
    record.write_text(json.dumps({repo: {"state": "another", "files": ["model-00002.safetensors"]}}))
    files.update({"model-00002.safetensors": b"old", "LICENSE": b"mine"})
    push_models(plan)
    assert "model-00002.safetensors" not in files and files["LICENSE"] == b"mine"


@pytest.mark.filterwarnings(PEFT_WARNING)
def test_what_the_hub_refuses_is_told_in_one_line(tmp_path, hub, monkeypatch):
    plan, repo = finished(tmp_path, "merged"), "me/tiny-vft-seed0"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.repos[repo] = {"private": False, "files": {}, "commits": []}
    with pytest.raises(AftError, match=f"^hub: {repo} was not pushed: it is public already"):
        push_models(plan)
    assert not hub.repos[repo]["files"]
    push_models(finished(tmp_path, "merged", private=False))
    assert len(hub.repos[repo]["commits"]) == 1
    plan.run.hub.unlink()
    hub.refuses = 403
    with pytest.raises(AftError, match=r"\(HTTP 403\); set HF_TOKEN to one that may write"):
        push_models(plan)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(AftError, match=r"the hub's offline mode is on \(HF_HUB_OFFLINE\)"):
        push_models(plan)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens
    with pytest.raises(AftError, match=r"was not pushed: .*\(\w*Error\)\nThe run"):
        push_models(plan)


def test_a_token_in_the_file_is_refused_and_not_shown(command, tiny, tmp_path):
    token = f"hf_{'a1' * 17}"
    for override in (f"hub={{repo: me/x, token: {token}}}", f"hub={{repo: me/{token}}}"):
        ended = command("train", "--config", str(tiny), f"output_dir={tmp_path / 'run'}", override, "--dry-run")
        assert ended.code == 2 and token not in ended.err + ended.out
        assert "hub.token: unknown key" in ended.err or "holds a token of the Hugging Face hub" in ended.err


@pytest.mark.parametrize(
    ("repo", "match"),
    [
        ("tiny", "expected account/name"),
        ("me/a--b", "the hub allows no '--'"),
        ("me/" + "n" * 90, "characters, allowed: at most 96"),
    ],
)
def test_a_name_that_the_hub_refuses_is_told_before_the_run(command, tiny, tmp_path, repo, match):
    ended = command("train", "--config", str(tiny), f"output_dir={tmp_path / 'run'}", f"hub.repo={repo}", "--dry-run")
    assert ended.code == 2 and "hub.repo: " in ended.err and match in ended.err


def test_models_without_metrics_are_not_pushed(command, tiny, tmp_path):
    arguments = ["--config", str(tiny), f"output_dir={tmp_path / 'run'}", "hub.repo=me/x", "--dry-run"]
    ended = command("train", *arguments, "evaluate.models=[base]")
    assert ended.code == 2 and "is not in evaluate.models" in ended.err
