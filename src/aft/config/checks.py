"""Checks that involve several sections of a configuration, or that bounds and types cannot express."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Collection
from typing import Any

from ..errors import nearest
from ..run.folder import BASE, STAGES, VFT, method_round
from .data import MixtureData
from .ratings import GIVEN, FileRatings, FunctionRatings, JudgeRatings
from .schema import Config, hub_repos, model_names, num_rounds, trained_names


def check_config(config: Config, broken: Collection[str] = ()) -> list[str]:
    """Returns the problems that no section can find alone. A check that needs a `broken` section is skipped."""
    checks: list[tuple[str, Callable[[Config], list[str]]]] = [
        ("output_dir", _check_output_dir),
        ("stages", _check_stages),
        ("seeds", _check_seeds),
        ("methods stages", _check_method_names),
        ("model stages", _check_base_model),
        ("model", _check_quantization),
        ("evaluate methods rounds", _check_models),
        ("prompt", _check_prompt),
        ("sample data", _check_pool),
        ("sample", _check_from_prefix),
        ("sample align methods stages", _check_negatives),
        ("data", _check_marker),
        ("label seeds", _check_ratings),
        ("sample evaluate", _check_temperatures),
        ("evaluate", _check_assessment),
        ("evaluate", _check_self_consistency),
        ("model sample evaluate launch methods stages rounds", _check_engines),
        ("sample evaluate methods stages seeds rounds", _check_served_models),
        ("launch sample evaluate", _check_processes),
        ("rounds stages sample evaluate label", _check_rounds),
        ("hub model align methods evaluate seeds stages rounds", _check_hub),
    ]
    return [problem for needs, check in checks if not set(needs.split()) & set(broken) for problem in check(config)]


def _check_output_dir(config: Config) -> list[str]:
    if not config.output_dir.strip():
        return [f"output_dir: expected the name of a folder, got {config.output_dir!r}"]
    if config.output_dir.startswith("~"):
        return [f"output_dir: '~' stands for itself here, write the whole path; got {config.output_dir!r}"]
    return []


def _repeated(name: str, values: list[Any]) -> list[str]:
    return [f"{name}: a value appears twice: {values}"] if len(set(values)) < len(values) else []


def _check_stages(config: Config) -> list[str]:
    problems = _repeated("stages", config.stages)
    return problems if config.stages else [f"stages: empty; allowed: {', '.join(STAGES)}"]


def _check_seeds(config: Config) -> list[str]:
    problems = _repeated("seeds", config.seeds)
    if not config.seeds:
        problems.append("seeds: empty; at least one is needed")
    if any(not 0 <= seed < 2**32 for seed in config.seeds):  # numpy's generator accepts seeds below 2**32 only
        problems.append(f"seeds: must be from 0 to {2**32 - 1}, got {config.seeds}")
    return problems


def _check_method_names(config: Config) -> list[str]:
    problems = []
    if not config.methods and "align" in config.stages:
        problems.append("methods: empty, but 'align' is among the stages")
    taken = {BASE: BASE, VFT: VFT}
    for name in config.methods:
        where, folded = f"methods.{name}", name.casefold()
        if name in (BASE, VFT):
            problems.append(f"{where}: the name is taken by the {name} model")
        elif folded in taken:
            problems.append(f"{where}: differs from '{taken[folded]}' in case alone, which some file systems ignore")
        elif len(name) > _LONGEST_METHOD:
            problems.append(f"{where}: has {len(name)} characters, allowed: at most {_LONGEST_METHOD}")
        elif folded.endswith((".json", ".jsonl", ".yaml", ".log", ".tmp", ".")):
            problems.append(f"{where}: a method's name becomes a folder; it must not end as a file does, nor in '.'")
        elif _DEVICES.fullmatch(folded.partition(".")[0]):
            problems.append(f"{where}: Windows keeps this name for a device")
        taken.setdefault(folded, name)
    return problems


_LONGEST_METHOD = 100
_DEVICES = re.compile("con|prn|aux|nul|com[0-9]|lpt[0-9]")


def _check_base_model(config: Config) -> list[str]:
    model = config.model
    if (model.name_or_path is None) == (model.from_scratch is None):
        return [
            "model: give either model.name_or_path (a hub name or folder) or model.from_scratch, not both or neither"
        ]
    if model.name_or_path is not None and not model.name_or_path.strip():
        return [f"model.name_or_path: expected a hub name or a folder, got {model.name_or_path!r}"]
    if model.gguf_file is not None and model.name_or_path is None:
        return ["model.gguf_file: names a file in model.name_or_path, which is not given"]
    if model.from_scratch is None and "pretrain" in config.stages:
        return ["stages: 'pretrain' makes a from-scratch base model, but model.name_or_path names one"]
    return []


def _check_quantization(config: Config) -> list[str]:
    model, section, key = config.model, config.model.quantization, "model.quantization"
    if section is None:
        return []
    problems = []
    if model.lora is None:
        problems.append(f"{key}: weights of 4 bits cannot be trained; set model.lora, whose adapters are")
    if section.load_in_8bit:
        problems.append(
            f"{key}.load_in_8bit: true; 8-bit products of a row depend on the other rows of its batch, so no layout"
            " could be trusted; allowed: false, with load_in_4bit: true"
        )
    elif not section.load_in_4bit:
        problems.append(f"{key}.load_in_4bit: must be true; {key}: null holds the weights in model.dtype")
    if model.gguf_file is not None:
        problems.append(f"{key}: not with model.gguf_file; name the unquantised checkpoint as model.name_or_path")
    if model.dtype == "auto" and section.bnb_4bit_compute_dtype is None:
        problems.append(f"{key}.bnb_4bit_compute_dtype: must be given, because model.dtype is auto")
    if section.inference and model.lora is not None and model.lora.save != "adapter":
        problems.append(
            f"{key}.inference: needs model.lora.save: adapter, got {model.lora.save}; merged weights would be"
            " quantised again, and be another model"
        )
    return problems


_REPO = re.compile(r"[A-Za-z0-9._-]+/[A-Za-z0-9._-]+")
_LONGEST_REPO = 96  # characters that the hub allows


def _check_hub(config: Config) -> list[str]:
    """The names that the hub allows, and adapters that would stand on a model that nobody else has."""
    if config.hub is None:
        return []
    problems = []
    for repo, name, _ in hub_repos(config):
        if not _REPO.fullmatch(repo) or any(part[0] in ".-" or part[-1] in ".-" for part in repo.split("/")):
            problems.append(f"hub.repo: expected account/name of letters, digits, '.', '_' and '-', got '{repo}'")
        elif "--" in repo or ".." in repo:
            problems.append(f"hub.repo: the hub allows no '--' and no '..' in a name, got '{repo}'")
        elif len(repo) > _LONGEST_REPO:
            problems.append(f"hub.repo: '{repo}' has {len(repo)} characters, allowed: at most {_LONGEST_REPO}")
        elif below := _adapter_below(config, name):
            problems.append(
                f"hub: the adapter of '{name}' stands on the {below} adapter, which is not pushed with it; set"
                " model.lora.save to merged or both"
            )
    measured = model_names(config)
    if not {"vft", "align"} & {*config.stages}:
        problems.append("hub: no stage of this run trains a model; allowed: null")
    elif "evaluate" not in config.stages:
        problems.append("hub: models are pushed with their metrics, but 'evaluate' is not among the stages")
    else:
        pushed = {name for _, name, _ in hub_repos(config)}
        # the final model of a method is that of any of its rounds
        final = [name for name in (VFT, *trained_names(config)) if method_round(name)[0] in pushed]
        if absent := [name for name in final if name not in measured]:
            problems.append(f"hub: models are pushed with their metrics, but '{absent[0]}' is not in evaluate.models")
    return problems


def _adapter_below(config: Config, name: str) -> str | None:
    """Returns which adapter of this run the adapter of a model stands on, or None."""
    lora = config.model.lora
    if lora is None or lora.save != "adapter" or name == VFT:
        return None
    own = config.methods.get(name)
    if (own or {}).get("init_from", config.align.init_from) == VFT:
        return VFT
    later = num_rounds(config) > 1 and config.rounds is not None and config.rounds.start_from == "last"
    return "previous round's" if later else None


def _check_models(config: Config) -> list[str]:
    models = config.evaluate.models
    if models is None:
        return []
    known = [BASE, VFT, *trained_names(config)]
    problems = _repeated("evaluate.models", models)
    if not models:
        problems.append(f"evaluate.models: empty; null means all: {', '.join(known)}")
    return problems + [
        f"evaluate.models: unknown model '{name}'.{nearest(name, known)} Allowed: {', '.join(known)}"
        for name in models
        if name not in known
    ]


def _check_rounds(config: Config) -> list[str]:
    if num_rounds(config) == 1:
        return []
    problems = [
        f"rounds.count: {num_rounds(config)}, but '{stage}' is not among the stages; a round samples, labels and aligns"
        for stage in ("sample", "label", "align")
        if stage not in config.stages
    ]
    for stage in ("sample", "evaluate"):
        if getattr(config, stage).engine == "openai":
            problems.append(
                f"{stage}.engine: openai, but no server has the models that rounds make on the way; allowed:"
                " transformers, vllm"
            )
    if isinstance(config.label.ratings, FileRatings):
        problems.append("label.ratings: file, but the samples of later rounds do not exist yet, so no file rates them")
    return problems


def _check_prompt(config: Config) -> list[str]:
    problems = []
    if "{question}" not in config.prompt.template:
        problems.append(f"prompt.template: must contain {{question}}, got {config.prompt.template!r}")
    if config.prompt.system is not None and not config.prompt.chat:
        problems.append("prompt.system: only with prompt.chat=true")
    for key in ("date", "template_kwargs"):
        if getattr(config.prompt, key) and not config.prompt.chat:
            problems.append(f"prompt.{key}: only with prompt.chat=true")
    for name in config.prompt.template_kwargs:
        if name in _RENDERING_DECIDES:
            problems.append(f"prompt.template_kwargs.{name}: not to be set here; {_RENDERING_DECIDES[name]}")
        elif not name.isidentifier():
            problems.append(f"prompt.template_kwargs.{name}: expected the name of a variable of the chat template")
    if config.prompt.date is not None and not is_day(config.prompt.date):
        problems.append(f"prompt.date: expected a day as YYYY-MM-DD, got {config.prompt.date!r}")
    return problems


# What `apply_chat_template` is given by this package, or does itself, and what to set instead.
_RENDERING_DECIDES = {
    **dict.fromkeys(("conversation", "messages"), "the question is the user turn"),
    "chat_template": "change the template in a copy of the tokenizer",
    "strftime_now": "set prompt.date",
    **dict.fromkeys(
        ("add_generation_prompt", "continue_final_message"), "every prompt ends where the model's answer begins"
    ),
    **dict.fromkeys(
        (
            *("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict"),
            *("return_assistant_tokens_mask", "tokenizer_kwargs", "self"),
        ),
        "it is no variable of a template",
    ),
}


def is_day(text: str) -> bool:
    """True for a day that exists, as YYYY-MM-DD."""
    try:
        return datetime.date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _check_pool(config: Config) -> list[str]:
    # num_validation can be null or absent; then `Plan.pool_questions` compares with the data
    pool, validation = config.sample.pool_questions, getattr(config.data, "num_validation", None)
    if pool is None or validation is None or pool <= validation:
        return []
    return [f"sample.pool_questions: {pool}, more than data.num_validation: {validation}"]


def _check_from_prefix(config: Config) -> list[str]:
    if config.sample.from_prefix is None or config.sample.temperature > 0:
        return []
    return ["sample.from_prefix: a greedy continuation repeats the chain; sample.temperature must be above 0"]


def _check_negatives(config: Config) -> list[str]:
    """Negatives that no stage makes. Groups that are given may have them."""
    if config.sample.from_prefix is not None or not {"label", "align"} <= {*config.stages}:
        return []
    asked: dict[str, Any] = {}
    for name, section in config.methods.items():
        own = "negatives" in (section or {})
        asked[f"methods.{name}" if own else "align"] = section["negatives"] if own else config.align.negatives
    return [
        f"{name}.negatives: from_prefix, but sample.from_prefix is null: no candidate continues a right chain"
        for name, value in asked.items()
        if value == "from_prefix"
    ]


def _check_temperatures(config: Config) -> list[str]:
    given: dict[str, Any] = {"sample": config.sample, "evaluate": config.evaluate}
    given |= {f"evaluate.{name}": getattr(config.evaluate, name) for name in ("assessment", "self_consistency")}
    return [
        f"{name}.temperature: {section.temperature:g} divides by nearly 0, allowed: at least {_LEAST_TEMPERATURE:g}"
        for name, section in given.items()
        if section is not None and 0 < section.temperature < _LEAST_TEMPERATURE
    ]


_LEAST_TEMPERATURE = 1e-4  # logits divided by less leave the range of float32


def _check_marker(config: Config) -> list[str]:
    parts = {"data": config.data}
    if isinstance(config.data, MixtureData):
        parts = {f"data.parts.{name}.data": part.data for name, part in config.data.parts.items()}
    return [
        f"{key}.answer_marker: empty; the final answer is found by it"
        for key, data in parts.items()
        if not getattr(data, "answer_marker", "none needed").strip()
    ]


def _check_ratings(config: Config) -> list[str]:
    section, name = config.label.ratings, "label.ratings"
    if isinstance(section, FileRatings) and len(config.seeds) > 1 and "{seed}" not in section.path:
        return [
            f"{name}.path: each of the {len(config.seeds)} seeds has completions of its own, so it needs a file of its"
            f" own; write {{seed}} where the seed stands in its name; got {section.path!r}"
        ]
    if isinstance(section, JudgeRatings) and section.min_score >= section.max_score:
        return [f"{name}.min_score: must be below max_score = {section.max_score:g}, got {section.min_score:g}"]
    return function_problems(section) if isinstance(section, FunctionRatings) else []


def function_problems(section: FunctionRatings) -> list[str]:
    """Returns the problems in the section of a rating function. Does not import the function."""
    problems = [f"label.ratings.arguments.{key}: the run itself gives it" for key in section.arguments if key in GIVEN]
    module, colon, function = section.function.rpartition(":")
    if not (module and colon and function.isidentifier()):
        form = "my_ratings.py:rate or package.module:rate"
        problems.append(f"label.ratings.function: expected {form}, got {section.function!r}")
    return problems


def _check_assessment(config: Config) -> list[str]:
    assessment = config.evaluate.assessment
    if assessment is None or assessment.max_samples >= 2 * assessment.per_label:
        return []
    return [
        f"evaluate.assessment.max_samples: {assessment.max_samples} cannot hold {assessment.per_label} right and"
        f" {assessment.per_label} wrong chains"
    ]


def _check_processes(config: Config) -> list[str]:
    launch, problems = config.launch, []
    together = "which says how the processes work together"
    if launch.num_processes is not None and launch.config is None:
        problems.append(f"launch.num_processes: only with launch.config, {together}")
    if launch.slurm is not None and launch.slurm.nodes > 1:
        if launch.config is None:
            problems.append(f"launch.slurm.nodes: several only with launch.config, {together}")
        elif (launch.num_processes or 0) % launch.slurm.nodes:
            nodes = launch.slurm.nodes
            problems.append(
                f"launch.num_processes: {launch.num_processes} cannot be divided among {nodes} nodes equally"
            )
    gpus = launch.slurm.gpus_per_node if launch.slurm is not None and launch.device != "cpu" else None
    if launch.slurm is None or not gpus:
        return problems
    vllm = "vllm" in (config.sample.engine, config.evaluate.engine)  # takes all GPUs itself
    given, all_gpus = launch.num_processes, launch.slurm.nodes * gpus
    if launch.config is None and launch.slurm.nodes == 1 and gpus > 1 and not vllm:
        problems.append(
            f"launch.slurm.gpus_per_node: {gpus}, but without launch.config one process uses one GPU; set"
            f" launch.config, {together}"
        )
    elif launch.config is not None and given is not None and (given > all_gpus or (given < all_gpus and not vllm)):
        problems.append(
            f"launch.num_processes: {given}, but launch.slurm asks for {all_gpus} GPUs (nodes × gpus_per_node); each"
            " GPU has a process of its own"
        )
    return problems


# Arguments of `vllm.LLM` that this package gives itself, and what to set instead.
_VLLM_DECIDES = {
    **dict.fromkeys(
        ("tensor_parallel_size", "gpu_memory_utilization", "max_model_len", "dtype", "enforce_eager"),
        "it is a key beside arguments",
    ),
    "max_num_seqs": "set batch_size beside engine",
    "data_parallel_size": "set replicas",
    **dict.fromkeys(("model", "tokenizer"), "the stage gives its checkpoint"),
    **dict.fromkeys(("revision", "trust_remote_code"), "set it in model"),
    "seed": "every completion has a seed of its own",
    "skip_tokenizer_init": "vLLM reads and writes token ids",
}


def _check_engines(config: Config) -> list[str]:
    problems = []
    temperatures = {
        "sample.temperature": config.sample.temperature,
        "evaluate.temperature": config.evaluate.temperature,
    }
    for name in ("assessment", "self_consistency"):
        if (part := getattr(config.evaluate, name)) is not None:
            temperatures[f"evaluate.{name}.temperature"] = part.temperature
    for stage, section in (("sample", config.sample), ("evaluate", config.evaluate)):
        if section.engine == "transformers":
            continue
        if section.batching == "static":
            problems.append(f"{stage}.batching: static, but {stage}.engine {section.engine} replaces finished rows")
        if section.engine == "openai":
            continue
        later = [] if num_rounds(config) == 1 else [*config.methods]
        reads = [config.sample.model, *later] if stage == "sample" else model_names(config)
        lora, quantization = config.model.lora, config.model.quantization
        if lora is not None and lora.save == "adapter" and stage in config.stages and reads != [BASE]:
            problems.append(
                f"{stage}.engine: vllm, but model.lora.save: adapter leaves it no whole model; set that to merged or"
                " both, or take the transformers engine"
            )
        if quantization is not None and quantization.inference and stage in config.stages:
            problems.append(f"{stage}.engine: vllm, but model.quantization.inference: only transformers does it here")
        if config.model.gguf_file is not None and stage in config.stages and BASE in reads:
            problems.append(
                f"{stage}.engine: vllm, but the base model is a GGUF file, which only transformers reads here"
            )
        for key in section.vllm.arguments:
            if key in _VLLM_DECIDES:
                problems.append(f"{stage}.vllm.arguments.{key}: not to be set here; {_VLLM_DECIDES[key]}")
        # vLLM would raise it to 0.01 without an error
        for key, value in temperatures.items():
            if key.startswith(stage) and 0 < value < 0.01:
                problems.append(f"{key}: must be 0 or at least 0.01 with {stage}.engine vllm, got {value:g}")
        if config.launch.workers > 1:
            problems.append(
                f"launch.workers: must be 1 with {stage}.engine vllm, got {config.launch.workers}; vLLM takes all GPUs,"
                f" see {stage}.vllm.replicas"
            )
    return problems


def _check_served_models(config: Config) -> list[str]:
    """Two units whose models differ must not sample from the same model of a server."""
    problems = []
    for stage, names in (("sample", [config.sample.model]), ("evaluate", model_names(config))):
        section = getattr(config, stage)
        given = section.openai.model
        if section.engine != "openai" or given is None:
            continue
        where = f"{stage}.openai.model"
        fields = set(re.findall(r"\{([^{}]*)\}", given))
        if odd := sorted(fields - {"name", "seed"}):
            problems.append(f"{where}: '{{{odd[0]}}}' has no meaning, allowed: {{name}}, {{seed}}")
        if stage not in config.stages:
            continue
        if len(names) > 1 and "name" not in fields:
            problems.append(f"{where}: one name for {len(names)} models ({', '.join(names)}); write {{name}} into it")
        if len(config.seeds) > 1 and names != [BASE] and "seed" not in fields:
            problems.append(f"{where}: one name for {len(config.seeds)} seeds; write {{seed}} into it")
    return problems


def _check_self_consistency(config: Config) -> list[str]:
    section, name = config.evaluate.self_consistency, "evaluate.self_consistency.ns"
    if section is None:
        return []
    problems = _repeated(name, section.ns)
    if not section.ns:
        problems.append(f"{name}: empty; at least one number of paths is needed")
    outside = [n for n in section.ns if not 1 <= n <= section.num_paths]
    if outside:
        problems.append(f"{name}: must be from 1 to num_paths = {section.num_paths}, got {outside}")
    if section.chains and (section.temperature, section.top_p) != (1.0, 1.0):
        problems.append(
            "evaluate.self_consistency.chains: the entropy is that of paths with temperature 1 and top_p 1, got"
            f" {section.temperature:g} and {section.top_p:g}"
        )
    return problems
