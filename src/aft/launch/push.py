"""Pushes the trained models of a run to the Hugging Face hub, each with a card that has its metrics."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ..config.schema import hub_repos
from ..errors import AftError, first_line
from ..json_files import read_json, write_json
from ..markdown import markdown
from ..progress import say
from ..report.measures import MEASURED, NATS, SHARE, Measure
from ..report.read import read_metrics
from ..report.spread import number
from ..run.digest import digest_value
from ..run.folder import INITIAL_SCORES, TRAINER_STATE, VFT, Unit
from ..run.manifest import read_manifest
from ..stages.plan import ADAPTER_CONFIG, DONE, Plan
from ..stats.estimate import Estimate
from ..tasks import hub_names

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, HfApi

# Outputs of a training that belong to no model. The training log names folders of this machine.
_STAYS = {TRAINER_STATE, INITIAL_SCORES}
_CARD = "README.md"


@dataclasses.dataclass(frozen=True)
class _Push:
    """A model to push. `trained`: the unit whose folder holds it; `evaluated`: the unit that measured it."""

    repo: str
    trained: Unit
    evaluated: Unit


def _pushes(plan: Plan) -> list[_Push]:
    run = plan.run
    return [
        _Push(
            repo,
            run.unit("vft", seed) if name == VFT else run.unit("align", seed, plan.final_model(name, seed)),
            run.unit("evaluate", seed, name if name == VFT else plan.final_model(name, seed)),
        )
        for repo, name, seed in hub_repos(plan.config)
    ]


def describe_pushes(plan: Plan) -> list[str]:
    """A line for each repository that a run would write, and one if there is no token. Uses no network."""
    section = plan.config.hub
    if section is None:
        return []
    kind = "private" if section.private else "public"
    lines = [f"push    {push.trained!s:<40}{push.repo} ({kind})" for push in _pushes(plan)]
    return lines + ([] if _has_token() else [f"        but {_NO_TOKEN}"])


_NO_TOKEN = "no token is here; set HF_TOKEN or run `hf auth login`"


def tell_lacking_token(plan: Plan) -> None:
    """Print a line if models are to be pushed and there is no token yet: the run may take hours until it is used."""
    if plan.config.hub is not None and not _has_token():
        say(f"warning: hub: {_NO_TOKEN} before the run ends")


def _has_token() -> bool:
    from huggingface_hub import get_token

    return get_token() is not None


def push_models(plan: Plan) -> None:
    """Push every model of the section `hub` that has changed since it was pushed last.

    Raises `AftError` with one line for each model that could not be pushed. The run stays finished.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HTTPError  # of its client, which is another package from version to version

    section, api = plan.config.hub, HfApi(library_name="aft")
    if section is None:
        return
    done = read_json(plan.run.hub) or {}
    metrics, failed = read_metrics(plan.folder), []
    for push in _pushes(plan):
        stale = next((unit for unit in (push.trained, push.evaluated) if plan.status(unit).state != DONE), None)
        if stale is not None:
            failed.append(f"hub: {push.repo} was not pushed: {stale} is not up to date")
            continue
        measured = metrics[push.evaluated.name or ""][push.evaluated.seed or 0]
        state = _state(push, private=section.private)
        if done.get(push.repo, {}).get("state") == state:
            say(f"hub: {push.repo} is up to date")
            continue
        try:
            pushed = _push(api, plan, push, measured, done.get(push.repo, {}).get("files", []))
        except (AftError, OSError, ValueError, RuntimeError, HTTPError) as error:
            failed.append(f"hub: {push.repo} was not pushed: {_why(error)}")
            continue
        done[push.repo] = {"state": state, **pushed}
        write_json(plan.run.hub, done)
        say(f"hub: pushed {push.trained} to {pushed['url']}")
    if failed:
        raise AftError("\n".join([*failed, "The run is finished; the same command pushes what is missing."]))


def _state(push: _Push, *, private: bool) -> str:
    """A digest of what is pushed: another one says that a model or its metrics have changed."""
    manifests = [read_manifest(unit.manifest) or {} for unit in (push.trained, push.evaluated)]
    return digest_value({"outputs": [manifest.get("outputs") for manifest in manifests], "private": private})


def _push(api: HfApi, plan: Plan, push: _Push, measured: dict[str, Any], before: list[str]) -> dict[str, Any]:
    """`before`: the files that an earlier push wrote. Those that are gone are deleted there."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    section = plan.config.hub
    assert section is not None
    api.create_repo(push.repo, private=section.private, exist_ok=True)
    info = api.model_info(push.repo)
    if section.private and not info.private:
        raise AftError("it is public already, and hub.private is true; make it private there, or set that to false")
    files = {name: push.trained.folder / name for name in _model_files(push.trained)}
    there = {sibling.rfilename for sibling in info.siblings or ()}
    operations: list[Any] = [CommitOperationAdd(name, str(path)) for name, path in files.items()]
    operations.append(CommitOperationAdd(_CARD, _card(plan, push, measured).encode()))
    operations += [CommitOperationDelete(name) for name in sorted({*before} & there - {*files, _CARD})]
    commit = api.create_commit(push.repo, operations, commit_message=f"{push.trained}, trained with aft")
    return {"url": str(commit.commit_url), "files": sorted([*files, _CARD])}


def _model_files(unit: Unit) -> list[str]:
    """The files that make the model of a unit's folder: weights, configurations, tokenizer."""
    outputs = (read_manifest(unit.manifest) or {})["outputs"]
    # beside a config.json, transformers looks for whole weights and not for those that an adapter names
    stays = _STAYS | ({"config.json"} if ADAPTER_CONFIG in outputs else set())
    return [name for name in outputs if name not in stays and not name.startswith("adapter/")]


def _card(plan: Plan, push: _Push, measured: dict[str, Any]) -> str:
    from ..stages.card import Evaluated, model_card

    found = {measure: measured[measure.name] for measure in MEASURED if measured[measure.name] is not None}
    rows = [(_named(measure), number(value, measure.kind, alone=""), str(value.n)) for measure, value in found.items()]
    table = markdown(["measure", "value [95 % interval]", "n"], rows)
    results = [
        _result(plan, measured["split"], measure, value) for measure, value in found.items() if value.mean is not None
    ]
    evaluated = Evaluated(push.repo.rpartition("/")[2], measured["split"], results, table)
    reads = [source for source in plan.reads(push.trained).values() if isinstance(source, str)]
    return model_card(plan.config, push.trained, reads[0], evaluated)


def _named(measure: Measure) -> str:
    return f"{measure.heading}, nats per token" if measure.kind is NATS else measure.heading


def _result(plan: Plan, split: str, measure: Measure, value: Estimate) -> EvalResult:
    from huggingface_hub import EvalResult

    data = plan.config.data
    kind = "accuracy" if measure.kind is SHARE else "perplexity" if "perplexity" in measure.name else measure.name
    return EvalResult(
        task_type="text-generation",
        dataset_type=next(iter(hub_names(data)), data.name),
        dataset_name=data.name,
        dataset_split=split,
        metric_type=kind,
        metric_name=measure.bare_heading,
        metric_value=value.mean,
    )


def _why(error: Exception) -> str:
    """Why the hub did not take a model, on one line."""
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError, OfflineModeIsEnabled

    if isinstance(error, AftError):
        return first_line(error)
    if isinstance(error, OfflineModeIsEnabled):
        return "the hub's offline mode is on (HF_HUB_OFFLINE)"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    if isinstance(error, LocalTokenNotFoundError) or status in (401, 403):
        refused = f" (HTTP {status})" if status else ""
        return (
            f"the hub takes no token that is here{refused}; set HF_TOKEN to one that may write, or run `hf auth login`"
        )
    return f"{first_line(error)} ({type(error).__name__})"
