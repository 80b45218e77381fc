"""Commented configurations to start from, one for each task."""

from __future__ import annotations

from ..yaml_files import yaml_line
from .packaged import find_model_file, hub_name

DEFAULT_MODEL = "HuggingFaceTB/SmolLM2-135M"

_FROM_HUB = "  # path: my-data       # {files} of your own; without it the data come from the hub\n"

# The `data` section of each task.
_DATA = {
    "gsm8k": "data:\n  name: gsm8k           # grade-school word problems\n"
    + _FROM_HUB.format(files="a folder with train.jsonl and test.jsonl"),
    "aqua": "data:\n  name: aqua            # algebra problems with five options\n"
    + _FROM_HUB.format(files="a folder with train.json, dev.json and test.json"),
    "ecqa": "data:\n  name: ecqa            # commonsense questions with five options\n"
    + _FROM_HUB.format(files="a folder with ecqa_train.jsonl, ecqa_val.jsonl and ecqa_test.jsonl"),
    "math": "data:\n  name: math            # competition problems, answers in LaTeX\n"
    + _FROM_HUB.format(files="a folder with train.jsonl and test.jsonl"),
    "svamp": "data:\n  name: svamp           # short word problems\n"
    + _FROM_HUB.format(files="a folder with train.jsonl and test.jsonl"),
    "mmlu": "data:\n  name: mmlu            # questions of 57 subjects; nothing to train on\n"
    + _FROM_HUB.format(files="a folder with dev/*.csv and test/*.csv"),
    "mixture": """\
data:
  name: mixture         # several tasks at once; accuracy is told for each
  parts:
    gsm8k: {data: {name: gsm8k}}
    aqua: {data: {name: aqua}}
    mmlu: {data: {name: mmlu, num_validation: 0}, share: 0}   # share 0: evaluated, not trained on
""",
    "jsonl": """\
data:
  name: jsonl
  # a line: {"question": "...", "rationale": "...", "answer": "72"}; without a rationale, only the answer is used
  # or: {"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "...\\n[ANS] 72"}]}
  train: train.jsonl
  answer_type: number   # or choice (with a list options), text, boxed (LaTeX)
  num_validation: 100   # taken out of train; or validation: FILE
  num_test: 200         # taken out of train; or test: FILE
""",
    "python": """\
data:
  name: python          # its code is run: name only what you trust
  module: my_task.py
  class_name: MyTask    # with the methods of aft.tasks.base.Task
  options: {}           # keyword arguments of the class
""",
    "arithmetic": """\
data:
  name: arithmetic      # generated word problems with invented verbs; no download
""",
    "creatures": """\
data:
  name: creatures       # generated questions about invented creatures; no download
""",
}
TASK_NAMES = tuple(_DATA)

_HEAD = """\
# A run of aft:  aft-train --config run.yaml --dry-run   shows the plan,  aft-train --config run.yaml   runs it.
# Every key can be set on the command line too: sample.num_samples=8. Paths are relative to the folder where you start.
{extends}output_dir: runs/{name}
seeds: [0]                # seeds: [0, 1, 2] repeats everything; tables then show mean and spread
"""

_MODEL = """\
model:
  name_or_path: {model}   # hub name or folder
  max_length: {length}         # longest question with its response, in tokens
  # lora: {{r: 16, target_modules: all-linear}}   # train adapters, where the memory is too small for all weights
prompt:
  template: {template}
"""
_EXTENDS = "extends: {file}   # what aft knows of the model: dtype, LoRA or all weights, rate, epochs, batches\n"
_KNOWN_MODEL = """\
# model: {{name_or_path: my-folder}}   # the same model from a folder; without it {model} of the hub
prompt:
  template: {template}
"""
_CHAT = """\
  chat: true              # the template becomes a user's turn of the model's chat template
  # system: "..."         # a system turn before every question
"""
_PLAIN = "  # chat: true            # for a model with a chat template\n"

_STAGES = """\
stages: [vft, sample, label, align, evaluate]
"""
_TRAINING = """\
# launch: {config: fsdp2, num_processes: 4}   # several GPUs, weights divided among them; without it, one process
training:                 # transformers' TrainingArguments, for every training
  learning_rate: 2e-5
  num_train_epochs: 3
  per_device_train_batch_size: 8    # questions, on each device
  warmup_steps: 0.03      # below 1: a share of all steps
  save_strategy: epoch    # checkpoints, from which an interrupted training resumes
  save_total_limit: 1
  # bf16: true            # on a GPU
  # activation_checkpointing: true  # less memory, more time
"""
_METHODS = """\
sample:
  num_samples: 6          # chains for each question
  max_new_tokens: 512
methods:                  # ways to go on from the samples, compared in one table
  vft-more: {init_from: vft, loss: null}                        # more of the same, the fair comparison
  rft: {supervise: reference_and_positives, loss: null}         # trains on the right samples as well
  aft-dcl: {loss: {constraint: {name: detached}}}
  aft-bcl: {loss: {constraint: {name: boundary, beta: 0.15}}}   # choose beta on validation questions
evaluate:
  max_new_tokens: 512
  # split: validation     # while you choose learning rates and beta
"""
_QUICK = """\
stages: [vft, sample, label, align, evaluate]
launch: {workers: 2}      # so small a model: two processes side by side
training: {learning_rate: 4e-4, num_train_epochs: 10, per_device_train_batch_size: 16, weight_decay: 0.0}
sample: {num_samples: 6, max_new_tokens: 40, batch_size: 600}
align: {init_from: vft, training: {max_steps: 50, per_device_train_batch_size: 24}}
methods:                  # ways to go on from the samples, compared in one table
  rft: {supervise: reference_and_positives, loss: null}
  aft-bcl: {loss: {constraint: {name: boundary, beta: 0.5}}}
evaluate: {max_new_tokens: 40, batch_size: 600, assessment: {num_questions: 50}}
"""
_SCRATCH = """\
model:
  from_scratch:           # the base model reads right and wrong chains first
    architecture: llama
    config: {hidden_size: 96, num_hidden_layers: 3, num_attention_heads: 4, intermediate_size: 256}
  max_length: 128
prompt: {template: "{question}"}
pretrain: {training: {max_steps: 1500, per_device_train_batch_size: 64, learning_rate: 3e-3}}
"""
_EVALUATE = """\
stages: [evaluate]        # there is nothing to train on
evaluate:
  models: [base]
  max_new_tokens: 512
  assessment: null        # it needs training questions
"""
_GENERATED = ("arithmetic", "creatures")


def starter(task: str, model: str | None = None, *, chat: bool = False) -> str:
    """Returns a commented configuration for a task of `TASK_NAMES`, as YAML that `load_config` reads.

    `model`: hub name or folder of the base model, or the name of a model that aft has a file for, such as
    `qwen2.5-1.5b`. The configuration then extends that file. Without a model, the task `arithmetic` takes the one that
    comes with aft, `creatures` trains one from scratch, and every other task takes a small model of the hub.
    """
    small = task in _GENERATED and model is None
    known = find_model_file(model) if model else None
    name = f"{known.removeprefix('models/')}-{task}" if known else task
    text = _HEAD.format(extends=_EXTENDS.format(file=known) if known else "", name=name) + _DATA[task]
    if small and task == "creatures":
        return text + _SCRATCH + _QUICK.replace("stages: [", "stages: [pretrain, ")
    template = _quoted("{question}" if chat or small else "Question: {question}\nAnswer:\n")
    if known:
        text += _KNOWN_MODEL.format(model=hub_name(known), template=template)
    else:
        model = yaml_line(model or ("arithmetic-base" if small else DEFAULT_MODEL))
        text += _MODEL.format(model=model, length=128 if small else 512, template=template)
    text += _CHAT if chat else "" if small else _PLAIN
    if task == "mmlu":
        return text + _EVALUATE
    return text + (_QUICK if small else _STAGES + ("" if known else _TRAINING) + _METHODS)


def _quoted(text: str) -> str:
    return '"' + text.replace("\n", "\\n") + '"'
