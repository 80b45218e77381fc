"""Write docs/configuration.md from the dataclasses of aft.config.schema. No arguments; a second run changes nothing.

Types, bounds and defaults come from the fields themselves; the sentence under a field is read from the source.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import types
import typing
from pathlib import Path
from typing import Any

from aft.config import (
    data,
    from_prefix,
    hub,
    losses,
    packaged,
    plan,
    quantization,
    ratings,
    rounds,
    schema,
    slurm,
    starter,
    training_scores,
)
from aft.markdown import markdown
from aft.training.arguments import DEFAULTS, OWNED
from aft.yaml_files import yaml_line

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "configuration.md"
PLAIN = {bool: "true or false", int: "whole number", float: "number", str: "text", type(None): "null"}
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}

INTRODUCTION = """\
# Configuration

This page lists every key of a run's YAML file, with its type, its default and what it does. Look up a key here, or read
the first sections to write a file of your own.

`python scripts/write_configuration.py` writes this page from [the schema](../src/aft/config/schema.py); do not edit it
by hand. A star (\\*) marks a choice that the paper leaves open.
[method.md](method.md#what-the-paper-leaves-open) gives the reasons.

- [A file](#a-file)
- [Methods](#methods)
- [Training arguments](#training-arguments)
- [Checkpoints and resuming](#checkpoints-and-resuming)
- [A disk that is full, read-only or gone](#a-disk-that-is-full-read-only-or-gone)
- [Engines](#engines)
- [Launching](#launching)
- [One run in a folder, and how it ends](#one-run-in-a-folder-and-how-it-ends)
- [Every key](#every-key)

## A file

Three sections must be there: `output_dir`, `data` and `model`. Everything else has a default.

```yaml
output_dir: runs/first
data: {name: gsm8k}
model: {name_or_path: meta-llama/Llama-2-7b-hf}
```

`aft-init gsm8k > run.yaml` writes a file with comments. It knows these tasks: {tasks}.

```bash
aft-train --config run.yaml                            # every stage that the file lists, then the report
aft-train --config run.yaml --dry-run                  # the plan and the resolved configuration, nothing else
aft-train --config run.yaml --plan                     # forecast memory, hours and cost (docs/plan.md), nothing else
aft-train --config run.yaml --stage align              # one stage
aft-train --config run.yaml seeds=[0,1,2] --sample.temperature 0.7
```

- **Paths** are relative to the folder in which you start the command, in a file and on the command line. This holds for
  `output_dir`, data, models, ratings, launch files and your own code. Only `extends` is relative to its own file.
- **Names** of what comes with aft work from every folder. A file of that name, or the folder of a checkpoint, is taken
  first.
  - `--config` and `extends`: {run_names}, and `models/NAME` for each model of [models.md](models.md#the-models)
  - `extends` alone, because they are parts of a run: {part_names}
  - `launch.config`: {launch_files}
  - `model.name_or_path`: {model_names}, the quickstart's base model
- **A dry run** needs neither data nor network, and runs no code of yours. It prints the plan, a line for everything
  that it did not look at, and the configuration. If it did not look at the data, it assumes that the data of finished
  units is unchanged.
- **Numbers.** `2e-5` is a number, and `1_000` is 1000.
- **Repeated keys.** A key that occurs twice in a mapping is an error. The message names both lines.
- **Two readings.** YAML 1.1 and 1.2 read some scalars differently: `010`, `0o10`, `1:30`, `yes`, `no`, `on`, `off`.
  - Such a scalar is refused, in an override too. The message says what you may mean.
  - `yes`, `no`, `on` and `off` are read where a key takes true or false.
  - Write text of this form in quotes. On the command line, write `training.save_strategy="'no'"`.
- **Limits.**
  - A file, and each file that it extends, is a regular file of at most 1 MB. At most 20 files extend each other.
  - A file has at most 10,000 keys and values on at most 32 levels.
  - Aliases (`*name`) and merge keys (`<<`) are read. Each counts as often as it is used, and becomes a value of its
    own.
  - A whole number without a bound in the tables below is at most 2,147,483,647.
  - A name of a file or folder has at most 255 bytes.
- **`extends: other.yaml`** reads another file first. Its path is relative to the file with `extends`. The other file
  may extend a third one.
  - The keys of your file win, mapping by mapping. A list replaces the whole list of the other file.
  - A mapping with another `name` replaces the whole mapping. So no key of the old constraint or task stays.
  - A list of files, `extends: [models/qwen2.5-1.5b, tasks/ecqa]`, is read in this order. Later files win over earlier
    ones.
  - The methods of the other file stay beside your own.
- **Overrides** on the command line win over the file. Write `key=value`, `--key value` or `--key=value`, with dots
  between sections and the value in YAML.
  - An override replaces the key that it names. If you override a `name`, the keys of the old section go too. So
    `align.loss.constraint.name=detached` works without removing `beta`.
  - A method's own setting wins over `align` and `training`. Override it in the method:
    `methods.aft-boundary.loss.constraint.beta=0.3`. If an override of `align` or `training` reaches nothing, a note
    says so.
- **Problems** are reported all at once, with file, key, what was found and what is allowed. The exit code is then 2.
- **The resolved configuration** is written to `config.yaml` in the run folder. You can use it as `--config`.

## Methods

Each entry of `methods` is a name and the changes that it makes to `align`. All methods of a seed train on the same
samples. The names are the rows of the report, and names of folders. These rules hold for a name:

- `base` and `vft` are taken.
- A name has at most 100 letters, digits, `.`, `_` and `-`.
- Two names differ in more than case.
- A name does not end in `.`, or as a file does (`.json`).
- A name is none that Windows keeps for a device.

```yaml
methods:
  vft-more: {init_from: vft, loss: null}
  rft: {supervise: reference_and_positives, loss: null}
  aft-unconstrained: {loss: {constraint: {name: none}}}
  aft-dcl: {loss: {constraint: {name: detached}}}
  aft-bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}
```

## Training arguments

`training` holds arguments of transformers' `TrainingArguments`, under their own names and with their own meaning. The
training stages share `training`. A stage's own keys win over `training`: `pretrain.training`, `vft.training` and
`align.training`. A method's `training` wins over `align.training`. The table has the defaults that we set. Every other
key keeps transformers' default:

{defaults}

[trackers.md](trackers.md) has what `training.report_to`, `run_name` and `project` do.

These keys are refused, because the run sets them or because they would act against its losses:

{owned}

Batches are counted in questions. One optimizer step takes `training.per_device_train_batch_size` ×
`training.gradient_accumulation_steps` × processes questions. How these questions are divided changes neither loss nor
gradient, apart from rounding and the random numbers of dropout.

`model.max_tokens_per_batch` divides a batch further. Each call of the model then reads at most so many tokens. So raise
the batch size and leave `gradient_accumulation_steps` as it is.

## Checkpoints and resuming

With `training.save_strategy: steps` or `epoch`, an interrupted training resumes from its last whole `checkpoint-N`.

- **A checkpoint lists its parts** in `parts.json`: every file with its size and SHA-256.
  - The list is written last, when all processes have written and the files are flushed to the disk. Older checkpoints
    are deleted after that. So one whole checkpoint is always there.
  - The digests cover every byte. Several threads compute the digests, and divide a file above 64 MB into blocks.
    Training waits for the digests, as it waits for the files.
- **Before a resume, the list is compared with the files.**
  - If a part is missing or changed, the message names the checkpoint and what is wrong. The checkpoint is renamed to
    `damaged-checkpoint-N`, for you to delete, and the checkpoint before it is used.
  - A checkpoint that was interrupted while it was saved is deleted. Until its list is written, such a checkpoint has a
    file `unsealed`.
  - If no checkpoint is left, the training starts again and says so.
- **With `load_best_model_at_end`**, the best checkpoint is compared too. If it is missing or damaged, the command ends
  with exit code 3, and nothing is thrown away. Put the checkpoint back, or delete the unit's folder to start again.
- **A checkpoint without a list** comes from an earlier version, or was made by hand. It is judged by its parts, and all
  must be there and load:
  - weights (whole, in shards, or an adapter),
  - optimizer and scheduler,
  - the random state of every process,
  - the scaler of float16,
  - `trainer_state.json`.
- **A changed bit in a checkpoint without a list** is found in torch's files, by torch's checksums. In safetensors and
  JSON files, it can stay unnoticed.
- **A checkpoint of which only the list is damaged** can be used: delete its `parts.json` if you trust the rest.
- **No code from a checkpoint runs.** torch's files are loaded with `weights_only`. DeepSpeed's own loader unpickles its
  states, so resume only your own trainings with DeepSpeed. Digests find damage; they do not prove who wrote a file.
- **With several machines**, the output folder must be one that all machines see. The first process judges for all.

## A disk that is full, read-only or gone

A command ends with exit code 5 and one line: the path, what was being written, and how to go on. The same command then
resumes. What was finished stays as it was.

- **Files are written whole**: under a temporary name, flushed to the disk, then renamed. A checkpoint that does not fit
  is removed again.
- **Appended lines**, such as completions and a judge's replies, reach the file at once and the disk every 5 seconds. A
  killed process loses no line. A power failure loses the lines of a few seconds.
- **Temporary files** of ended processes are removed at the next start. Those of a process that still lives stay.
- **The space that a stage can write is estimated before it begins.** The estimate has models in their saved dtype,
  checkpoints with the optimizer's states, and texts as long as they may be. A line warns if less is free. Nothing is
  refused.
- **A log that cannot be written** is given up with a warning, and the run goes on.

## Engines

`sample.engine` and `evaluate.engine` choose what samples: transformers, vLLM or an OpenAI-compatible server. The
environment variable `AFT_VLLM_PYTHON` names an interpreter that has vLLM. The run looks for vLLM there before work
starts. [data.md](data.md#who-samples) says what each engine needs and promises.

## Launching

- **Without `launch.config`**, one process does all units of a run, stage after stage, on a GPU if there is one. It
  imports torch and transformers once.
- **`launch.workers`** runs several such processes side by side. They share out the seeds and methods of a stage. Use
  `launch.workers` for models that are far too small to fill a machine.
- **`launch.config`** names an accelerate configuration, by path or by name. All processes then work together on one
  model after the other. `launch.num_processes` wins over the number in that file.
  - With `multi-gpu`, every GPU holds all weights, gradients and optimizer states: 16 bytes a parameter in float32 with
    Adam.
  - `fsdp2` and `zero3` divide weights, gradients and optimizer states.
  - `zero3` needs `pip install 'aft[deepspeed]'`. The others need nothing more.

Some units change their process in a way that cannot be undone, so each of them gets a process of its own:

- a training with `full_determinism`, `tf32`, `torch_compile` or a `report_to` other than `tensorboard`,
- labelling with a function of yours (`label.ratings`).

You can also start a stage by hand: `accelerate launch -m aft.cli.train --config run.yaml --stage align`.
For several machines and Slurm, read [scale.md](scale.md). `aft-train --config run.yaml --sbatch` prints the script of
a job.
[run-folder.md](run-folder.md) has what a run writes, and what happens if a file of it is damaged.

## One run in a folder, and how it ends

- **One run at a time** writes into an `output_dir`. A second run ends with exit code 4. The message says which process
  of which host holds the folder, with which command and since when.
  - `--dry-run`, `aft-report` and `aft-verify` say so and go on.
  - A run that only reads another run's checkpoint, or shares a judge's cache with it, needs no lock.
- **The lock** is the file `.lock` in the folder, with `.lock.json` beside it. If its process is gone, the next run says
  so and takes over.
  - First the next run waits up to 10 s for stage processes of the earlier run that still write.
  - The process may have been on another host. If `.lock.json` is then younger than ten minutes, the next run first
    waits 30 s for a sign of life.
  - A file system without locks (flock) has `.lock.json` alone. Two runs that start there in the same moment may both
    begin.
- **SIGINT, SIGTERM, SIGHUP and SIGUSR1** end a run at its next safe point.
  - A training ends at the end of a step. It saves a checkpoint there, unless `save_strategy` is `no` or
    `save_only_model` is set. A model that is being saved is saved to its end.
  - Sampling keeps every finished completion. Labelling keeps a judge's replies.
  - If no safe point comes within 30 s, the stage's processes are killed, but not while they save a checkpoint or a
    model.
  - A second signal, a second later, ends the run at once.
  - A signal that is ignored, as under `nohup`, stays ignored.
  - Two launchers kill their processes 30 s after a signal in any case: torchrun that you start yourself, and torch
    without its `--shutdown-timeout`.
- **The same command resumes.** On one machine and with one number of processes, the weights and the logged values are
  those of an uninterrupted training. Only `train_loss` in `trainer_state.json` differs: it is the mean since the
  process began. With another number of processes, weights and values are the same up to rounding
  ([scale.md](scale.md#resuming)).
- **No process stays behind.** If `aft-train` is killed, its stage processes end within two seconds. The processes of a
  launcher end within two seconds too. Each process watches its parent, because a killed process can tell nobody.
- **A stage process that dies** is reported with the unit, the signal's name, the last lines of its output and its log.

| exit code | what happened |
| --- | --- |
| 0 | done |
| 1 | the run failed |
| 2 | the configuration is wrong |
| 3 | a data file, or a file of the run, is wrong |
| 4 | another run is at work in the folder |
| 5 | the disk is full, read-only, gone or failing |
| 128 + number | a signal ended the run: 130 SIGINT, 143 SIGTERM, 129 SIGHUP |

`peak_memory_bytes` in a manifest is the largest resident size of the process while the unit ran. It counts the unit's
own memory and what the process holds anyway, such as the libraries. Linux can begin this figure
anew for each unit. If a system cannot, the figure is the largest size since the process began. `seconds` are the unit's
own, without the start of a process.
"""


def render() -> str:
    """The whole page."""
    default_rows = [(f"`training.{key}`", f"`{_yaml(value)}`") for key, value in DEFAULTS.items()]
    owned_rows = [(f"`{key}`", reason) for key, reason in OWNED.items()]
    launch_files = sorted(path.stem for path in (ROOT / "configs" / "accelerate").glob("*.yaml"))
    page = INTRODUCTION.replace("{defaults}", markdown(("key", "default"), default_rows, numbers=False))
    page = page.replace("{owned}", markdown(("key", "why, or what to set instead"), owned_rows, numbers=False))
    for key, names in (
        ("{tasks}", starter.TASK_NAMES),
        ("{run_names}", packaged.run_names()),
        ("{part_names}", packaged.part_names()),
        ("{model_names}", packaged.MODEL_NAMES),
    ):
        page = page.replace(key, ", ".join(f"`{name}`" for name in names))
    page = page.replace("{launch_files}", ", ".join(f"`{name}`" for name in launch_files))
    return "\n\n".join([page.rstrip(), *_sections(schema.Config)]) + "\n"


def _field_docs() -> dict[str, dict[str, str]]:
    """Class name -> field name -> the sentence that stands under the field."""
    docs: dict[str, dict[str, str]] = {}
    modules = (schema, data, from_prefix, hub, losses, plan, quantization, ratings, rounds, slurm, training_scores)
    nodes = [node for module in modules for node in ast.parse(Path(module.__file__).read_text("utf-8")).body]
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr):
                    assert isinstance(field.target, ast.Name) and isinstance(text.value, ast.Constant)
                    docs.setdefault(node.name, {})[field.target.id] = " ".join(str(text.value.value).split())
    return docs


FIELD_DOCS = _field_docs()


def _explain(cls: Any, name: str) -> str:
    """The sentence under a field, of the class or what it extends. None is an error: every key is explained."""
    return next(FIELD_DOCS[kind.__name__][name] for kind in cls.__mro__ if name in FIELD_DOCS.get(kind.__name__, {}))


def _sections(cls: Any, path: str = "", seen: set[tuple[Any, str]] | None = None) -> list[str]:
    """The section of a dataclass, then those of the dataclasses inside it, depth first.

    `seen`: what stands above. Every loss has the same constraints, which stand behind the first loss alone.
    """
    seen = set() if seen is None else seen
    if (cls, path) in seen:
        return []
    seen.add((cls, path))
    hints = typing.get_type_hints(cls)
    rows: list[tuple[str, ...]] = []
    nested: list[tuple[Any, str]] = []
    for field in dataclasses.fields(cls):
        key = f"{path}.{field.name}" if path else field.name
        kind, limits = (
            _type(hints[field.name]),
            {name: field.metadata[name] for name in BOUNDS if name in field.metadata},
        )
        bounds = [f"{BOUNDS[name]} {limit:{',' if isinstance(limit, int) else 'g'}}" for name, limit in limits.items()]
        text = "Chooses this section." if field.name == "name" else _explain(cls, field.name)
        rows.append((f"`{key}`", ", ".join([kind, *bounds]), _default(field), _escape(text)))
        # a part of a mixture holds the tasks' sections again, which stand above
        nested += [(inner, key) for inner in _classes(hints[field.name]) if cls is not data.MixturePart]
        nested += [(inner, f"{key}.NAME") for inner in _named_classes(hints[field.name])]
    chosen = typing.get_args(hints["name"]) if "name" in hints else ()
    heading = f"### {path} with name: {chosen[0]}" if chosen else f"### {path}" if path else "## Every key"
    own = "\n\n".join(
        [
            heading,
            inspect.cleandoc(cls.__doc__ or ""),
            markdown(("key", "type", "default", "meaning"), rows, numbers=False),
        ]
    )
    return [own, *(section for inner, key in nested for section in _sections(inner, key, seen))]


def _classes(hint: Any) -> list[Any]:
    """The dataclasses among the alternatives of a type."""
    members = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    return [member for member in members if dataclasses.is_dataclass(member)]


def _named_classes(hint: Any) -> list[Any]:
    """The dataclass of a mapping's values."""
    values = typing.get_args(hint)[1:] if typing.get_origin(hint) is dict else ()
    return [value for value in values if dataclasses.is_dataclass(value)]


def _escape(text: str) -> str:
    """Stars outside of code would be read as emphasis."""
    parts = text.split("`")
    return "`".join(part if index % 2 else part.replace("*", "\\*") for index, part in enumerate(parts))


def _type(hint: Any) -> str:
    """A type in words."""
    origin, members = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return " or ".join(f"`{member}`" for member in members)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(map(_type, members)))
    if origin is list:
        return f"list ({_type(members[0])})"
    if origin is dict:
        return "mapping"
    return "section" if dataclasses.is_dataclass(hint) else PLAIN[hint]


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{_yaml(field.default)}`"
    if field.default_factory is dataclasses.MISSING:
        return "must be given"
    value: Any = field.default_factory()
    if dataclasses.is_dataclass(value):
        return f"`{{name: {vars(value)['name']}}}`" if "name" in vars(value) else "its defaults"
    return f"`{_yaml(value)}`"


def _yaml(value: Any) -> str:
    """A value as it would stand in a YAML file, on one line."""
    if isinstance(value, str) and "\n" in value:
        return json.dumps(value, ensure_ascii=False)
    return yaml_line(value)


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
