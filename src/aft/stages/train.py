"""Stages 0, 1 and 3: pretrain, vft and align. They use the same trainer with different data, start and objective."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list

from ..config import align_config
from ..config.schema import AlignConfig, ValidationConfig
from ..encoding import TextEncoder, set_ends
from ..ending import deferring
from ..errors import ConfigError, DataError, writing
from ..json_files import write_text
from ..model import add_lora, build_model, build_tokenizer, build_word_tokenizer, lora_arguments, merge_lora
from ..progress import saving, say
from ..prompts import render_prompt
from ..records import POSITIVE, REFERENCE, Group, has_pair, read_groups
from ..run.digest import digest_file, digest_value
from ..run.environment import peak_memory_bytes
from ..run.folder import LIVE_LOG
from ..run.manifest import INITIAL_SCORES, UnitLog, checkpoint_outputs
from ..sampling.requests import derive_seed
from ..scoring.entries import Encoder, alignment_entries, chosen_candidates, count_work, first_samples
from ..tasks import PRETRAIN, TRAIN, closed_vocabulary
from ..training.arguments import make_arguments
from ..training.callbacks import LiveLog, OnceItTrains, SaveEnds, StopOnCollapse
from ..training.checkpoints import how_divided, last_checkpoint, set_aside
from ..training.job import TrainingJob
from ..training.objective import Objective
from ..training.ranks import questions_of_a_step, share_step
from ..training.saved import TrainedScores, check_saved, check_tokenizer, forget_optimizer, trained_scores
from ..training.sharding import leave_deepspeed
from ..training.trainer import AftTrainer
from .card import model_card
from .complete import check_groups
from .context import Stage, check_sizes, references
from .loss_section import make_objective, takes_initial_scores
from .monitoring import initial_scores, measure_accuracy, validation_entries
from .plan import CANDIDATES_BY_DEFAULT, Plan, Unit
from .rounds import merge_groups
from .tracking import track


@dataclasses.dataclass(frozen=True)
class _Work:
    """What differs between the training stages.

    `start`: the checkpoint that the model starts from; None: random weights. `texts`: encodes texts and decides how a
    response ends. `encoder`: made the job's entries and has counted the responses that did not fit. `training`: the
    keys of TrainingArguments. `lora`: arguments of peft's LoraConfig. `save`: what is left of an adapter. `facts`:
    further keys of the manifest.
    """

    job: TrainingJob
    texts: TextEncoder
    encoder: Encoder
    training: dict[str, Any]
    start: str | None = None
    validation: ValidationConfig | None = None
    collapse: StopOnCollapse | None = None
    lora: dict[str, Any] | None = None
    save: str = "both"
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def run_pretrain(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Build the from-scratch base model and train it on the task's pre-training text."""
    config, task = stage.config, stage.plan.task
    scratch = config.model.from_scratch
    if scratch is None:
        raise ConfigError("stages: 'pretrain' needs model.from_scratch")
    questions = task.load(PRETRAIN)
    lines = (render_prompt(q.question, config.prompt.template) + task.reference_response(q) for q in questions)
    vocabulary = closed_vocabulary(task)
    tokenizer = build_word_tokenizer(vocabulary) if vocabulary else build_tokenizer(lines, scratch.vocab_size)
    model = build_model(scratch.architecture, scratch.config, tokenizer, seed=0)
    texts = stage.texts(tokenizer)
    encoder = stage.encoder(texts)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    say(f"base model: {scratch.architecture}, {parameters / 1e6:.2f} million parameters, vocabulary {len(tokenizer):,}")
    job = TrainingJob(model, tokenizer, references(stage, questions, encoder))
    _train(stage, unit, log, _Work(job, texts, encoder, stage.plan.training(config.pretrain.training)))


def run_vft(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """Maximum likelihood on the reference chains."""
    config = stage.config
    base = stage.plan.checkpoint("base", unit.seed)
    tokenizer = stage.tokenizer(base)
    texts = stage.texts(tokenizer, base)
    encoder = stage.encoder(texts)
    questions = stage.plan.task.load(TRAIN, seed=unit.seed or 0)
    objective = Objective(vft_reduction=config.vft.reduction)
    work = _Work(
        TrainingJob(stage.model(base), tokenizer, references(stage, questions, encoder), objective),
        texts,
        encoder,
        stage.plan.training(config.vft.training),
        start=base,
        validation=config.vft.validation,
        **_lora(stage),
    )
    _train(stage, unit, log, work)


def run_align(stage: Stage, unit: Unit, log: UnitLog | None) -> None:
    """L_VFT on the references plus the alignment term on each question's candidates, of one round or of all so far."""
    config = stage.config
    align = align_config(config, unit.name or "")
    start = stage.plan.checkpoint(stage.plan.start_of(unit.name or ""), unit.seed)
    tokenizer = stage.tokenizer(start)
    texts = stage.texts(tokenizer, start)
    encoder = stage.encoder(texts)
    groups = _groups_of_rounds(stage.plan, unit, align)
    if align.groups == "mixed":
        groups = _mixed(groups, unit)
    _check_ratings(align, unit, groups)
    objective = make_objective(align.loss, align.vft_reduction)
    entries = alignment_entries(
        groups,
        encoder,
        supervise=align.supervise,
        ranked=align.loss is not None,
        # a borrowed reference would count as a question of its own
        pair_references=align.pair_references and not align.vft_reduction.startswith("question"),
        seed=derive_seed("borrow", unit.seed or 0),
    )
    facts = {"groups": len(groups), "groups_with_pair": None}
    if align.loss is not None:
        ratings = [[r for item in entry for r in item.ratings if r is not None] for entry in entries]
        facts["groups_with_pair"] = sum(has_pair(of_group, objective.min_rating_gap) for of_group in ratings)
    if facts["groups_with_pair"] == 0 and objective.pairs_only:
        apart = f" by more than {objective.min_rating_gap:g}" if objective.min_rating_gap else ""
        say(
            f"{unit}: no question has candidates whose ratings differ{apart}: nothing is compared, and loss/align is"
            " not logged"
        )
    if len(entries) < len(groups):
        say(f"{unit}: {len(groups) - len(entries):,} of {len(groups):,} questions have nothing to train on")
    scores_before = None
    if takes_initial_scores(align):
        key = _key_of_initial_scores(stage, unit, align)
        scores_before = functools.partial(initial_scores, folder=unit.folder, key=key)
    work = _Work(
        TrainingJob(stage.model(start), tokenizer, entries, objective, initial_scores=scores_before),
        texts,
        encoder,
        stage.plan.training(align.training),
        start=start,
        validation=align.validation,
        collapse=StopOnCollapse(**vars(align.stop_on_collapse)) if align.stop_on_collapse else None,
        **_lora(stage),
        facts=facts,
    )
    _train(stage, unit, log, work)


def _groups_of_rounds(plan: Plan, unit: Unit, align: AlignConfig) -> Sequence[Group]:
    """The groups of the unit's round, or of all rounds so far, with the candidates that the method uses.

    `max_candidates` counts the samples of each round. Candidates are chosen before rounds are merged: otherwise a text
    of an earlier round that the method does not use would take the place of one that it does.
    """
    rounds = []
    questions = plan.training_questions(unit.seed or 0)
    for label in plan.label_units(unit):
        path = plan.groups(unit.seed, label.name)
        given = read_groups(path)
        check_groups(plan, unit, given, questions, path)
        groups = first_samples(given, align.max_candidates)
        rounds.append(chosen_candidates(groups, align.negatives, masked=align.response_mask))
    return rounds[0] if len(rounds) == 1 else merge_groups(rounds, deduplicate=plan.config.label.deduplicate)


def _key_of_initial_scores(stage: Stage, unit: Unit, align: AlignConfig) -> str:
    """A digest of everything that the scores before training depend on. Methods with one digest share the scores."""
    decides = {
        "reads": (stage.plan.inputs(unit) or {})["reads"],
        "prompt": stage.plan.prompt_keys(unit),
        "model": stage.plan.model_keys("align"),
    }
    for key, usual in (("max_candidates", None), *CANDIDATES_BY_DEFAULT.items()):
        if getattr(align, key) != usual:
            decides[key] = getattr(align, key)
    return digest_value(decides)


def _lora(stage: Stage) -> dict[str, Any]:
    """The keys of `_Work` that say how adapters are trained and saved. Empty: there are none."""
    section = stage.config.model.lora
    return {"lora": lora_arguments(dataclasses.asdict(section)), "save": section.save} if section else {}


def _mixed(groups: Sequence[Group], unit: Unit) -> list[Group]:
    """The groups whose samples are not all right or all wrong. The reference is no sample.

    Raises `DataError` if there is none.
    """

    def outcomes(group: Group) -> set[bool]:
        return {candidate.label == POSITIVE for candidate in group.candidates if candidate.label != REFERENCE}

    kept = [group for group in groups if len(outcomes(group)) == 2]
    if not kept:
        raise DataError(f"{unit}: groups: mixed leaves nothing: no question has both right and wrong samples")
    say(f"{unit}: groups: mixed: {len(groups) - len(kept):,} of {len(groups):,} questions left out")
    return kept


def _check_ratings(align: AlignConfig, unit: Unit, groups: Sequence[Group]) -> None:
    """Raise `ConfigError` if a loss needs `desirable_above` and has none, and some ratings are neither 0 nor 1."""
    if getattr(align.loss, "desirable_above", 0.5) is not None:
        return
    graded = {candidate.rating for group in groups for candidate in group.candidates} - {0.0, 1.0}
    if graded:
        raise ConfigError(
            f"{unit}: loss.desirable_above: must be given, as ratings are not 0 and 1 alone; there are also"
            f" {', '.join(f'{rating:g}' for rating in sorted(graded)[:5])}{' …' if len(graded) > 5 else ''}"
        )


def _train(stage: Stage, unit: Unit, log: UnitLog | None, work: _Work) -> None:
    """Train, resume from the last checkpoint if there is one, and save a model that transformers can load."""
    with contextlib.ExitStack() as cut:
        _train_until(cut, stage, unit, log, work)
        # a rank that a signal ends here would have its launcher end the first one, which may still save
        PartialState().wait_for_everyone()


def _train_until(cut: contextlib.ExitStack, stage: Stage, unit: Unit, log: UnitLog | None, work: _Work) -> None:
    """`cut`: from the first step on, it holds what keeps signals from cutting the work elsewhere than at a step."""
    job, config, seed = work.job, stage.config, unit.seed or 0
    _tell_what_fits(unit, work)
    check_sizes(job.model, work.texts, job.entries)
    training = _shared_as_before(unit, log, work.training)
    arguments = make_arguments(
        training, unit.folder, seed=seed, data_seed=derive_seed(unit.stage, seed) % 2**31, cpu=stage.cpu
    )
    # an adapter's random weights are drawn before the trainer sets its seed
    torch.manual_seed(derive_seed("adapter", seed))
    model = add_lora(job.model, work.lora) if work.lora else job.model
    stage.enable_scoring(model)
    evaluates, validation = arguments.eval_strategy != "no", work.validation
    job = dataclasses.replace(
        job,
        model=model,
        eval_entries=validation_entries(stage, work.texts, seed) if evaluates else (),
        validate=measure_accuracy(stage, work.texts, validation, seed) if evaluates and validation else None,
        layout=config.model.layout,
        max_tokens=config.model.max_tokens_per_batch,
        description=str(unit),
    )
    ends = SaveEnds(lambda: set_ends(job.model, work.texts))
    # once it trains, a signal ends it at the end of a step, or when what was trained is saved
    to_a_safe_point = OnceItTrains(lambda _: cut.enter_context(deferring()))
    live = LiveLog(unit.folder / LIVE_LOG, functools.partial(_memory, stage))
    tracked = track(stage.plan, unit, arguments)
    callbacks = [ends, to_a_safe_point, live, tracked, *([work.collapse] if work.collapse else [])]
    trainer = AftTrainer(job, arguments, callbacks)
    with tracked.ending():
        trainer.train(resume_from_checkpoint=_checkpoint(unit, log, trainer))
    stopped = work.collapse.reason if work.collapse else None
    if stopped:
        say(f"{unit}: {stopped}")
    if measured := _last_validation(trainer):
        shares = (f"{100 * measured[key]:.1f} % {key.removeprefix('eval_').replace('_', ' ')}" for key in measured)
        say(f"{unit}: last validation: {', '.join(shares)}")
    trained = trained_scores(trainer)
    cut.enter_context(saving())
    alone = bool(work.lora) and work.save == "adapter"
    adapter = unit.folder if alone else unit.folder / "adapter"
    if work.lora:
        _name_base(model, stage, work.start)
    with writing(unit.folder, "the model"):
        trainer.save_state()
        trainer.save_model(str(adapter if work.lora else unit.folder))
    leave_deepspeed(trainer.accelerator)
    if log is None:
        return
    live.path.unlink(missing_ok=True)  # trainer_state.json holds the whole log now
    peak_gpu_memory = None if stage.cpu else torch.cuda.max_memory_allocated()
    if alone:
        _save_configs(job.model, unit)
    elif work.lora and work.start:
        _save_merged(stage, unit, work, adapter)
    saved_check = _check_saved(stage, unit, trained, trainer)
    if work.save == "merged":
        shutil.rmtree(adapter, ignore_errors=True)
    write_text(unit.folder / "README.md", model_card(config, unit, work.start))
    log.complete(
        checkpoint_outputs(unit.folder),
        **_facts(trainer),
        **work.facts,
        initial_scores=None if job.initial_scores is None else digest_file(unit.folder / INITIAL_SCORES),
        responses={
            name: getattr(work.encoder, name)
            for name in ("responses", "dropped", "truncated", "empty", "masked")
            if name != "masked" or work.encoder.masked
        },
        texts=work.texts.counts(),
        stopped=stopped,
        saved_check=saved_check,
        peak_gpu_memory_bytes=peak_gpu_memory,
    )


def _memory(stage: Stage) -> dict[str, int]:
    """The largest memory of the process so far and, on a GPU, the largest that its tensors had there; bytes."""
    gpu = {} if stage.cpu else {"peak_gpu_memory_bytes": torch.cuda.max_memory_allocated()}
    return {"peak_memory_bytes": peak_memory_bytes(), **gpu}


def _save_merged(stage: Stage, unit: Unit, work: _Work, adapter: Path) -> None:
    """Save base and adapter as one model. It is freed at the end, before the saved one is loaded."""
    merged = merge_lora(stage.model_under_adapter(str(work.start)), adapter)
    set_ends(merged, work.texts)
    with writing(unit.folder, "the model"):
        merged.save_pretrained(unit.folder)
        work.job.tokenizer.save_pretrained(unit.folder)


def _name_base(model: Any, stage: Stage, start: str | None) -> None:
    """Write into the adapter's configuration what it stands on: peft takes that from a model, which may not know."""
    for found in model.peft_config.values():
        found.base_model_name_or_path = start
        found.revision = None if Path(str(start)).is_dir() else stage.config.model.revision


def _save_configs(model: Any, unit: Unit) -> None:
    """Save the configurations of a whole model beside an adapter, without what says that it was held in 4 bits."""
    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with writing(unit.folder, "the model's configuration"):
        config.save_pretrained(unit.folder)
        if model.generation_config is not None:
            model.generation_config.save_pretrained(unit.folder)


def _check_saved(
    stage: Stage, unit: Unit, trained: TrainedScores, trainer: AftTrainer
) -> dict[str, float | None] | None:
    """Raise `AftError` if the saved folder, loaded as the next stage loads it, is not the trained model.

    A model that trained in 4 bits is loaded in `model.dtype`: quantising what was merged would make it another.
    """
    folder = str(unit.folder)

    def load() -> torch.nn.Module:
        model = stage.whole_model(folder)
        stage.enable_scoring(model)
        return model

    check_tokenizer(trained, stage.tokenizer(folder), trainer.job.tokenizer, unit.folder)
    forget_optimizer(trainer)
    return check_saved(trained, load, stage.device, unit.folder)


def _tell_what_fits(unit: Unit, work: _Work) -> None:
    too_long = work.encoder.summary()
    if too_long:
        say(f"{unit}: {too_long}")
    if not work.job.entries:
        raise DataError(f"{unit}: nothing to train on: no response fits in model.max_length tokens")


def _shared_as_before(unit: Unit, log: UnitLog | None, training: dict[str, Any]) -> dict[str, Any]:
    """The keys of a training, so that a step has the questions that it had for as many processes as began it.

    All ranks call this together. Raises `ConfigError` on all if this number of processes cannot divide a step.
    """
    now = PartialState().num_processes
    [began] = broadcast_object_list([log.processes if log else None])
    if began in (None, now):
        return training
    shared = share_step(training, began, now)
    questions = questions_of_a_step(training, began)
    before = f"{began} process{'es' if began > 1 else ''}"
    if shared is None:
        raise ConfigError(
            f"{unit}: was cut with {before}, and {now} cannot share the {questions} questions of a step equally."
            f" Use {before}, or delete {unit.folder} to start again"
        )
    keys = ", ".join(f"{key}={value}" for key, value in shared.items())
    say(f"{unit}: began with {before}, now {now}: {keys} keep the {questions} questions of a step")
    return {**training, **shared}


def _checkpoint(unit: Unit, log: UnitLog | None, trainer: AftTrainer) -> str | None:
    """The checkpoint to resume from, after printing its name; None: start from step 0. All ranks call this together.

    The first rank decides for all. It names damaged checkpoints and sets them aside. Raises `DataError` or
    `ConfigError` on all.
    """
    found: list[Any] = [None, None]  # the checkpoint, and what is wrong
    if log is not None:
        try:
            found[0] = _first_rank_s_checkpoint(unit, log, trainer)
        except (ConfigError, DataError) as error:
            found[1] = (type(error), str(error))
    path, problem = broadcast_object_list(found)
    if problem is not None:
        kind, message = problem
        raise kind(message)
    return path


def _first_rank_s_checkpoint(unit: Unit, log: UnitLog, trainer: AftTrainer) -> str | None:
    arguments = trainer.args
    also = ["scaler.pt"] if getattr(trainer.accelerator, "scaler", None) is not None else []
    processes = arguments.world_size if log.processes == arguments.world_size else 1
    last = last_checkpoint(unit.folder, processes=processes, also=also, with_best=arguments.load_best_model_at_end)
    for path, problem in last.damaged.items():
        kept = set_aside(path)
        now = f"It is now {kept.name}; delete it freely" if kept else "It was cut while it was saved, and is deleted"
        say(f"{unit}: {path.name} cannot be resumed: {problem}. {now}")
    if last.path is not None:
        _check_division(unit, last.path, trainer)
        say(f"{unit}: continues from {last.path.name}")
    elif last.damaged:
        say(f"{unit}: no whole checkpoint is left; the training starts again")
    elif log.was_cut:
        say(f"{unit}: was cut before its first checkpoint and starts again; training.save_strategy makes some")
    return None if last.path is None else str(last.path)


def _check_division(unit: Unit, path: Path, trainer: AftTrainer) -> None:
    """Raise `ConfigError` if a checkpoint's states are divided in another way than the trainer's."""
    now = "DeepSpeed" if trainer.is_deepspeed_enabled else "FSDP" if trainer.is_fsdp_enabled else "neither"
    before, processes = how_divided(path)
    ways = f"{path} was written with {before}"
    again = f"or delete {unit.folder} to start again"
    if before != now:
        known = "neither FSDP nor DeepSpeed"
        ways, now = ways.replace("neither", known), now.replace("neither", known)
        raise ConfigError(f"{unit}: {ways}; this launch uses {now}. Use a launch.config like the one before, {again}")
    if before == "DeepSpeed" and processes not in (None, trainer.args.world_size):
        raise ConfigError(
            f"{unit}: {ways} by {processes} processes, which divide the optimizer's states; now there are"
            f" {trainer.args.world_size}. Use {processes}, {again}"
        )


def _facts(trainer: AftTrainer) -> dict[str, Any]:
    """The facts about a training that its manifest records."""
    last = [entry for entry in trainer.state.log_history if "loss" in entry][-1:]
    return {
        "steps": trainer.state.global_step,
        "best_step": _best_step(trainer),
        "entries": len(trainer.entries),
        "epoch": count_work(trainer.entries),
        "last_log": last[0] if last else {},
        "last_validation": _last_validation(trainer),
        "layout": trainer.packer.layout,
        "layout_trial": trainer.trial.figures(),
    }


def _last_validation(trainer: AftTrainer) -> dict[str, float]:
    """Task accuracy, and the shares of parsed and ended answers, of the last validation that sampled."""
    keys = ("eval_task_accuracy", "eval_parsed", "eval_ended")
    measured = [entry for entry in trainer.state.log_history if keys[0] in entry][-1:]
    return {key: entry[key] for entry in measured for key in keys if key in entry}


def _best_step(trainer: AftTrainer) -> int | None:
    best = trainer.state.best_model_checkpoint
    return int(Path(best).name.rpartition("-")[2]) if best and trainer.args.load_best_model_at_end else None
