"""Checks a configuration against the libraries, the files and the machine before anything runs."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from ..config import Config, align_config
from ..config.checks import function_problems
from ..config.data import JsonlData, MixtureData, PythonData
from ..config.launch_file import asked_machines, asked_processes, is_launched, on_cpu, read_launch_file
from ..config.packaged import find_model
from ..config.ratings import FunctionRatings, JudgeRatings, Ratings
from ..config.schema import validates_rounds
from ..errors import ConfigError, DataError, nearest, writing
from ..json_files import read_json
from ..run.engines import replica_devices, vllm_versions
from ..run.folder import TRAINING_STAGES
from ..shown import secret_in
from ..tasks import ANSWER_ONLY, TEST, TRAIN, VALIDATION, hub_names, make_task


def check_run(config: Config, broken: Collection[str] = (), *, sees_data: bool = True) -> list[str]:
    """Returns the problems with libraries and files. Checks that need a section in `broken` are skipped.

    `sees_data`: False leaves out the check of the data, for a dry run without them (`find_unseen`).
    """
    checks: list[tuple[str, Callable[[Config], list[str]]]] = [
        ("", _check_secrets),
        ("output_dir", _check_output_dir),
        ("model", _check_model_folder),
        ("launch model", _check_launch),
        ("hub model", check_pushed_adapter),
        *([("data seeds", _check_data)] if sees_data else []),
    ]
    problems = [problem for needs, check in checks if not set(needs.split()) & set(broken) for problem in check(config)]
    return problems + _check_training(config, broken)


def find_lacking(config: Config) -> list[str]:
    """Returns what this machine lacks for the run: GPUs or a package. A dry run only reports it."""
    return [*_lacking_vllm(config), *_lacking_machine(config)]


def _lacking_machine(config: Config) -> list[str]:
    import torch

    if config.model.gguf_file is not None and importlib.util.find_spec("gguf") is None:
        return ["model.gguf_file: reading it needs gguf, which is not installed here; pip install 'aft[gguf]'"]
    if config.model.quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
        return [
            "model.quantization: needs bitsandbytes, which is not installed here; pip install 'aft[qlora]', or set it"
            " to null"
        ]
    if config.launch.config is None:
        wants = config.launch.device == "cuda" and not torch.cuda.is_available()
        return ["launch.device: cuda, but torch finds no GPU here; allowed: auto, cpu"] if wants else []
    try:
        asked = read_launch_file(config.launch.config)
    except ConfigError:
        return []  # `_check_launch` reports this error
    where, lacking = f"launch.config: {config.launch.config}", []
    if asked.get("distributed_type") == "DEEPSPEED" and importlib.util.find_spec("deepspeed") is None:
        lacking.append(f"{where} asks for DeepSpeed, which is not installed here; pip install 'aft[deepspeed]'")
    nodes = config.launch.slurm.nodes if config.launch.slurm else 1
    if nodes > 1 and not (is_launched() or {"SLURM_JOB_ID", "MASTER_ADDR"} <= os.environ.keys()):
        lacking.append(
            f"launch.slurm.nodes: {nodes} nodes start in a job of Slurm: aft-train --sbatch prints its script"
        )
    if on_cpu(asked):
        return lacking
    if not torch.cuda.is_available():
        return [*lacking, f"{where} asks for GPUs, but torch finds none here; launch.config=cpu needs none"]
    processes = (asked_processes(config.launch, asked) or 1) / asked_machines(config.launch, asked)
    if processes > torch.cuda.device_count():
        lacking.append(
            f"{where} starts {processes:g} processes on a machine, one GPU each; here: {torch.cuda.device_count()}"
        )
    return lacking


def _lacking_vllm(config: Config) -> list[str]:
    # a round's model answers as in evaluation
    used = {*(config.stages or ())} | ({"evaluate"} if validates_rounds(config) else set())
    stages = [name for name in ("sample", "evaluate") if name in used]
    sections = {name: getattr(config, name) for name in stages}  # None: a section with problems, which are told
    wanting = [name for name, section in sections.items() if section is not None and section.engine == "vllm"]
    if not wanting:
        return []
    from ..device import use_cpu, visible_gpus

    try:
        vllm_versions()
    except ConfigError as error:
        return [f"{wanting[0]}.engine: vllm: {error}"]
    lacking = []
    gpus = [] if use_cpu(config.launch.device) else visible_gpus()
    for name in wanting:
        section = getattr(config, name).vllm
        try:
            replica_devices(section.tensor_parallel_size, section.replicas, gpus, f"{name}.vllm")
        except ConfigError as error:
            lacking += error.problems
    return lacking


def find_unseen(section: Any, key: str = "data", what: str = "a dry run") -> list[str]:
    """Returns why a dry run cannot look at the data of a `data` section. A dry run uses no network and runs no code.

    `what`: what the lines call the command.
    """
    if isinstance(section, MixtureData):
        parts = section.parts.items()
        return [line for name, part in parts for line in find_unseen(part.data, f"{key}.parts.{name}.data", what)]
    if isinstance(section, PythonData):
        return [f"{key}: not looked at, as {what} does not run the code of {section.module}"]
    if isinstance(section, JsonlData):
        files = {name: getattr(section, name) for name in (TRAIN, VALIDATION, TEST)}
        return [f"{key}.{name}: {_no_file(path)}" for name, path in files.items() if path and not Path(path).is_file()]
    path, names = getattr(section, "path", None), hub_names(section)
    if path is not None:
        return [] if Path(path).exists() else [f"{key}.path: {_no_folder(path)}"]
    return [f"{key}: {name} not looked at, as {what} does not use the network" for name in names]


def _no_file(path: str) -> str:
    return f"no file {path} (looked in {Path.cwd()})"


def _no_folder(path: str) -> str:
    return f"no folder {path} (looked in {Path.cwd()})"


def check_ratings(section: Ratings, *, runs_code: bool = True) -> list[str]:
    """Returns the problems with a rating function or a judge's prompt.

    A ratings file is not checked, because it can be made after sampling. `runs_code`: False imports no function.
    """
    from ..labelling.judge.prompt import read_template
    from ..labelling.ratings import load_function

    try:
        if isinstance(section, FunctionRatings) and not function_problems(section):
            if runs_code:
                load_function(section)
            elif (module := section.function.rpartition(":")[0]).endswith(".py") and not Path(module).is_file():
                return [f"label.ratings.function: {_no_file(module)}"]
        if isinstance(section, JudgeRatings):
            read_template(section.prompt)
    except ConfigError as error:
        return error.problems
    return []


def find_lacking_judge(section: Ratings) -> list[str]:
    """Returns what the environment lacks for a judge. A dry run only reports it."""
    from ..endpoint import Endpoint
    from ..labelling.rating_sources import judge_model

    if not isinstance(section, JudgeRatings):
        return []
    problems = []
    for ask in (lambda: judge_model(section), lambda: Endpoint.from_environment(section.timeout)):
        try:
            ask()
        except ConfigError as error:
            problems += error.problems
    return problems


def _check_secrets(config: Config) -> list[str]:
    """Returns the keys whose values hold secrets: the files of a run would keep them."""

    def find(value: Any, key: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping):
            for name, inner in value.items():
                yield from find(inner, f"{key}.{name}" if key else str(name))
        elif isinstance(value, (list, tuple)):
            for place, inner in enumerate(value):
                yield from find(inner, f"{key}[{place}]")
        elif isinstance(value, str) and (secret := secret_in(value)):
            yield key, secret

    told = "which the files of the run would keep; leave it to the environment"
    return [f"{key}: holds {secret}, {told}" for key, secret in find(dataclasses.asdict(config), "")]


def _check_output_dir(config: Config) -> list[str]:
    """Raises `DiskError` for a read-only file system: that is no mistake of the configuration."""
    folder = Path(config.output_dir)
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir():
        return [f"output_dir: {config.output_dir} cannot be made, {there} is a file"]
    if not os.access(there, os.W_OK | os.X_OK):
        if os.statvfs(there).f_flag & os.ST_RDONLY:
            with writing(folder, "the run"):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return [f"output_dir: {config.output_dir} cannot be written: no permission in {there}"]
    return []


def check_pushed_adapter(config: Config, *, local: bool = True) -> list[str]:
    """Others can use an adapter only if they have the model that it names, and load it as it was trained.

    `local`: a configuration that is not on this machine is not looked at.
    """
    lora, name = config.model.lora, config.model.name_or_path
    if config.hub is None or lora is None or lora.save != "adapter":
        return []
    if name is not None and not Path(find_model(name)).exists():
        from ..model import is_inside

        if config.model.gguf_file is not None or not is_inside(name, revision=config.model.revision, local=local):
            return []
        where = f"the language model inside {name}, which others load whole"
    else:
        where = f"the folder {name}" if name else "a model that this run makes"
    return [f"hub: the pushed adapters would stand on {where}; set model.lora.save to merged or both"]


def _check_model_folder(config: Config) -> list[str]:
    name = config.model.name_or_path
    if not name:
        return []
    folder = Path(find_model(name))
    gguf = config.model.gguf_file
    if folder.is_dir() and gguf is not None:
        if (folder / gguf).is_file():
            return []
        there = [path.name for path in sorted(folder.glob("*.gguf"))]
        return [
            f"model.gguf_file: no file {gguf} in {name}; there: {', '.join(there) or 'no .gguf file'}."
            + nearest(gguf, there)
        ]
    if folder.is_dir():
        if (folder / "config.json").is_file():
            return _check_model_family(name, folder / "config.json")
        if (folder / "adapter_config.json").is_file():
            return [
                f"model.name_or_path: {name} is an adapter without the config.json of its base model; copy that file"
                " into it"
            ]
        return [f"model.name_or_path: {name} is no model: it has no config.json"]
    if folder.exists():
        return [f"model.name_or_path: {name} is a file; expected a folder or a hub name"]
    # a hub name has at most one slash and no leading '.', '/' or '~'; anything else must be a folder
    if name.count("/") > 1 or name[0] in "./~":
        return [f"model.name_or_path: {_no_folder(name)}"]
    return []


def _check_model_family(name: str, path: Path) -> list[str]:
    from ..model import encoder_decoder

    try:
        settings = read_json(path, hint="") or {}
    except DataError as error:
        return [f"model.name_or_path: {str(error).removesuffix('.')}"]
    if settings.get("is_encoder_decoder") is not True:
        return []
    return [f"model.name_or_path: {name}: {encoder_decoder(str(settings.get('model_type')))}"]


def _check_launch(config: Config) -> list[str]:
    if config.launch.config is None:
        return []
    problems = []
    try:
        problems += _check_sharding(config, read_launch_file(config.launch.config))
    except ConfigError as error:
        problems += error.problems
    if config.launch.workers > 1:
        problems.append("launch.workers: only without launch.config, which starts processes of its own")
    return problems


def _check_sharding(config: Config, asked: dict[str, Any]) -> list[str]:
    """Returns settings that would fail during or at the end of a stage if weights are sharded among processes."""
    where, kind = f"launch.config: {config.launch.config}", asked.get("distributed_type")
    if kind not in ("FSDP", "DEEPSPEED"):
        return []
    problems = []
    if config.model.quantization is not None:
        problems.append(
            f"model.quantization: not with {where}, which divides weights or optimizer among processes; weights of 4"
            " bits stay whole: launch.config=multi-gpu, or null"
        )
    if config.launch.device == "cpu" or on_cpu(asked):
        divider = "FSDP" if kind == "FSDP" else "DeepSpeed"
        problems.append(
            f"{where}: accelerate has no {divider} on a CPU; launch.config=cpu shares the questions of a step"
        )
    if kind == "DEEPSPEED":
        problems += _check_deepspeed(where, asked)
        if (asked.get("deepspeed_config") or {}).get("zero_stage") != 3:
            return problems  # in ZeRO-1 and ZeRO-2, every process has all weights
    else:
        state = (asked.get("fsdp_config") or {}).get("fsdp_state_dict_type")
        if state != "FULL_STATE_DICT":
            problems.append(
                f"{where}: fsdp_config.fsdp_state_dict_type must be FULL_STATE_DICT, so that a stage can be read"
                f" by the next; got {state or 'nothing, which means SHARDED_STATE_DICT'}"
            )
    methods = {f"methods.{name}": (changes or {}).get("validation") for name, changes in config.methods.items()}
    for name, section in {"vft": config.vft.validation, "align": config.align.validation, **methods}.items():
        if section is not None:
            divided = "FSDP" if kind == "FSDP" else "ZeRO-3"
            problems.append(f"{name}.validation: decoding while training needs whole weights; not with {divided}")
    return problems


# Keys of accelerate's DeepSpeed configuration that must be set in TrainingArguments instead.
_TRAINING_DECIDES = {
    "gradient_accumulation_steps": "training.gradient_accumulation_steps",
    "gradient_clipping": "training.max_grad_norm",
}


def _check_deepspeed(where: str, asked: dict[str, Any]) -> list[str]:
    """Checks that the next stage can read the saved weights, and that no key overrides `training`."""
    problems, section = [], asked.get("deepspeed_config") or {}
    if "deepspeed_config_file" in section:
        return [
            f"{where}: deepspeed_config.deepspeed_config_file is not supported; set accelerate's own keys beside it"
        ]
    stage = section.get("zero_stage")
    if stage not in (1, 2, 3):
        problems.append(f"{where}: deepspeed_config.zero_stage: got {stage}, allowed: 1, 2, 3")
    if stage == 3 and section.get("zero3_save_16bit_model") is not True:
        problems.append(
            f"{where}: deepspeed_config.zero3_save_16bit_model must be true, so that a stage can be read by the next"
        )
    for key, ours in _TRAINING_DECIDES.items():
        if section.get(key, "auto") != "auto":
            problems.append(f"{where}: deepspeed_config.{key} is not to be set there; set {ours}")
    if asked.get("mixed_precision", "no") not in ("no", False):  # an unquoted `no` is false in YAML
        problems.append(f"{where}: mixed_precision must be 'no' with DeepSpeed; training.bf16 or training.fp16 decides")
    return problems


def _check_data(config: Config) -> list[str]:
    path = getattr(config.data, "path", None)
    if path is not None and not Path(path).exists():
        return [f"data.path: {_no_folder(path)}"]
    problems: list[str] = []
    try:
        task = make_task(**vars(config.data))
        for split in (TRAIN, ANSWER_ONLY, VALIDATION, TEST):
            questions = task.load(split, seed=next(iter(config.seeds), 0))
            evaluated = split == getattr(config.evaluate, "split", None) and "evaluate" in (config.stages or ())
            if evaluated and not questions:
                problems.append(f"evaluate.split: the {split} split has no questions")
    except ConfigError as error:
        # a task reports its argument names without the section's name
        problems += [problem if problem.startswith("data.") else f"data: {problem}" for problem in error.problems]
    except DataError:
        pass  # has another exit code; the plan raises it if the configuration is right
    return problems


def _check_training(config: Config, broken: Collection[str]) -> list[str]:
    """Checks the `training` of each section alone, then the merged arguments of each training."""
    sections: dict[str, dict[str, Any]] = {}
    if "training" not in broken:
        sections["training"] = config.training
    for name in TRAINING_STAGES:
        if name not in broken:
            sections[f"{name}.training"] = getattr(config, name).training
    if "methods" not in broken:
        for name, changes in config.methods.items():
            sections[f"methods.{name}.training"] = (changes or {}).get("training", {})
    if not any(sections.values()):
        return []
    from ..device import use_cpu
    from ..training.arguments import check_keys, check_whole

    problems = [problem for where, section in sections.items() for problem in check_keys(section, where)]
    if problems or set(broken) & {"training", *TRAINING_STAGES, "methods", "stages"}:
        return problems
    cpu = use_cpu("auto" if "launch" in broken else config.launch.device)
    told: dict[str, str] = {}  # problem -> the first section that has it
    for where, section in _trained(config).items():
        for problem in check_whole({**config.training, **section}, cpu=cpu):
            shared = problem in check_whole(config.training, cpu=cpu)
            told.setdefault(problem, "training" if shared else where)
    problems = [f"{where}: {problem}" for problem, where in told.items()] + _check_collapse(config)
    return problems + (_check_evaluating(config) if "data" not in broken else [])


def _check_collapse(config: Config) -> list[str]:
    """Checks that a method with `stop_on_collapse` has a training log to read."""
    aligns = {f"methods.{name}": align_config(config, name) for name in config.methods}
    return [
        f"{where}.stop_on_collapse: reads the training log, but training.logging_strategy is 'no'"
        for where, align in aligns.items()
        if align.stop_on_collapse and {**config.training, **align.training}.get("logging_strategy") == "no"
    ]


def _check_evaluating(config: Config) -> list[str]:
    """Checks that evaluation during training has validation questions and measures `metric_for_best_model`."""
    problems = []
    sections: dict[str, tuple[dict[str, Any], Any]] = {"vft": (config.vft.training, config.vft.validation)}
    for name in config.methods:
        align = align_config(config, name)
        sections[f"methods.{name}"] = (align.training, align.validation)
    for name, (training, validation) in sections.items():
        if name.partition(".")[0] not in [stage.replace("align", "methods") for stage in config.stages]:
            continue
        merged = {**config.training, **training}
        evaluates = str(merged.get("eval_strategy", "no")) != "no"
        if (evaluates or validation is not None) and getattr(config.data, "num_validation", None) == 0:
            problems.append(
                f"{name}: evaluating while training needs validation questions, but data.num_validation is 0"
            )
        metric = str(merged.get("metric_for_best_model") or "loss").removeprefix("eval_")
        known = ["loss"] if validation is None else ["loss", "task_accuracy"]
        if evaluates and metric not in known:
            missing = "; task_accuracy needs a validation section" if metric == "task_accuracy" else ""
            problems.append(
                f"{name}.training.metric_for_best_model: got '{metric}', allowed: {', '.join(known)}{missing}."
                + nearest(metric, known)
            )
    return problems


def _trained(config: Config) -> dict[str, dict[str, Any]]:
    """Returns the TrainingArguments of each training of this run, by the name for messages."""
    sections: dict[str, dict[str, Any]] = {}
    for name in ("pretrain", "vft"):
        if name in config.stages:
            sections[f"{name}.training"] = getattr(config, name).training
    if "align" in config.stages:
        for method in config.methods:
            sections[f"methods.{method}.training"] = align_config(config, method).training
    return sections
