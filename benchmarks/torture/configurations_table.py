"""The bad configurations: overrides of run.yaml, and whole files by name. A file is called `given.yaml`."""

from __future__ import annotations

# ---- one bad value ----

_VALUES = """
output_dir=
output_dir=~/run
output_dir="a\\0b"
output_dir=[run]
output_dir=null
stages=[]
stages=null
stages=[vft, vft]
stages=[vtf]
stages=pretrain
stages={vft: true}
seeds=[]
seeds=[-1]
seeds=[4294967296]
seeds=[1.5]
seeds=[0, 0]
seeds=[true]
seeds=zero
seeds=[[0]]
data=null
data=[]
data.name=arithmetics
data.name=null
data.name=1
data.num_train=0
data.num_train=-3
data.num_train=3.0
data.num_train=true
data.num_train=many
data.num_train=[16]
data.num_test=.nan
data.num_test=.inf
data.num_test=1e3
data.num_test=010
data.num_test=1:30
data.nun_train=16
data.options=3
data.options.min_statements=one
data.options.statements=1
data.answer_marker=
data.answer_marker=" "
data.answer_marker="a\\nb"
prompt.template=
prompt.template="no place"
prompt.template=[a]
prompt.template={question}
prompt.system=be good
prompt.date=2026-02-30
prompt.chat=maybe
prompt.template_kwargs.messages=[]
prompt.allow_special_tokens=1
model=null
model=llama
model.from_scratch=null
model.name_or_path=somewhere
model.from_scratch.architecture=lama
model.from_scratch.architecture=7
model.from_scratch.config=[]
model.from_scratch.config.hidden_size=-32
model.from_scratch.config.hidden_size=33
model.from_scratch.config.hidden_size=big
model.from_scratch.config.hiden_size=32
model.from_scratch.config.num_attention_heads=0
model.from_scratch.config.num_hidden_layers=1e9
model.from_scratch.vocab_size=1
model.max_length=0
model.max_length=7
model.max_length=1e30
model.dtype=float8
model.dtype=32
model.overlong=ignore
model.gguf_file=a.gguf
model.lora.r=0
model.lora.lora_dropout=1.5
model.attn_implementation=fast
training.learning_rate=-1
training.learning_rate=.nan
training.learning_rate=.inf
training.learning_rate=fast
training.learning_rate=[0.1]
training.learning_rte=0.1
training.max_steps=1.5
training.num_train_epochs=-1
training.per_device_train_batch_size=0
training.per_device_train_batch_size=-8
training.per_device_train_batch_size=1e30
training.lr_scheduler_type=linar
training.optim=adamx
training.save_strategy=sometimes
training.save_steps=0
training.warmup_steps=-1
training.gradient_accumulation_steps=0
training.output_dir=elsewhere
training.report_to=everyone
training.deepspeed=nowhere.json
training=fast
sample.num_samples=0
sample.num_samples=-1
sample.num_samples=1000000000000000000000000000000
sample.num_samples=010
sample.num_samples=1:30
sample.temperature=-0.1
sample.temperature=.nan
sample.temperature=.inf
sample.max_new_tokens=0
sample.batch_size=0
sample.pool_questions=-1
sample.pool_questions=9
label.ratings.name=oracle
label.ratings={name: judge, min_score: 10, max_score: 1}
label.ratings={name: judge, timeout: 0}
label.ratings={name: judge, concurrency: 0}
label.ratings={name: file, path: nowhere.jsonl}
label.ratings={name: function, function: rate}
label.ratings={name: function, function: nowhere.py:rate}
label.unparsed=maybe
label.stop=1
align.init_from=bse
align.max_candidates=0
align.loss.constraint.name=boundry
align.loss.constraint={name: boundary, beta: .nan}
methods=[]
methods=null
methods={base: null}
methods={vft: null}
methods={../escape: null}
methods={a/b: null}
methods={"": null}
methods={bcl: 7}
methods={bcl: {los: null}}
methods={1: null}
evaluate.models=[]
evaluate.models=[bcl, bcl]
evaluate.models=[unknown]
evaluate.split=train
evaluate.assessment.max_samples=1
evaluate.assessment.per_label=100
evaluate.self_consistency={num_paths: 2, ns: [4]}
evaluate.self_consistency={ns: []}
launch.workers=0
launch.num_processes=2
launch.config=nowhere
launch.device=tpu
unknown.key=1
output_dir.inner=1
"""
OVERRIDES: list[tuple[str, ...]] = [
    *((line,) for line in _VALUES.splitlines() if line),
    ("output_dir=" + "x" * 300,),
    ("methods={" + "m" * 300 + ": null}",),
    ("methods={initial-scores-vft.json: null, manifest.json: null, '.hidden': null}",),
    ("--config",),
    ("--stage", "vtf"),
    ("--stge", "vft"),
    ("--data.num_train",),
    ("data.num_train",),
    ("=3",),
    ("data.num_train=[",),
    ("data.num_train={a: 1, a: 2}",),
    ("data.num_train=&a [*a]",),
    ("data.num_train=!!python/object/apply:os.system ['touch canary']",),
    ("data={name: python, module: nowhere.py, class_name: T}",),
    ("data={name: jsonl, train: nowhere.jsonl}",),
    ("data={name: jsonl, train: /dev/zero}",),
    ("data={name: gsm8k, path: nowhere}",),
    ("data={name: mixture, parts: {}}",),
    ("data={name: mixture, parts: {a: {data: {name: mixture, parts: {}}}}}",),
    ("data={name: mixture, parts: {a: {data: {name: arithmetic}, share: 0.5}}}",),
]

# ---- whole files ----

_GOOD = b"""output_dir: run
data: {name: arithmetic}
model: {from_scratch: {architecture: llama}}
methods: {bcl: null}
"""
_BOMB = b"a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 10)
)

FILES: dict[str, dict[str, bytes]] = {
    "no such file": {},
    "a folder": {"given.yaml/": b""},
    "an empty file": {"given.yaml": b""},
    "a list": {"given.yaml": b"- output_dir: run\n"},
    "a text": {"given.yaml": b"output_dir\n"},
    "a number": {"given.yaml": b"3\n"},
    "two documents": {"given.yaml": _GOOD + b"---\n" + _GOOD},
    "an open bracket": {"given.yaml": _GOOD + b"seeds: [0\n"},
    "a tab as indent": {"given.yaml": _GOOD + b"training:\n\tmax_steps: 3\n"},
    "a repeated key": {"given.yaml": _GOOD + b"seeds: [0]\nseeds: [1]\n"},
    "a repeated inner key": {"given.yaml": _GOOD + b"training: {max_steps: 1, max_steps: 2}\n"},
    "a key that is a list": {"given.yaml": _GOOD + b"? [a]\n: 1\n"},
    "a template without quotes": {"given.yaml": _GOOD + b"prompt: {template: {question}}\n"},
    "not UTF-8": {"given.yaml": _GOOD + b"prompt: {template: '\xff{question}'}\n"},
    "UTF-16": {"given.yaml": _GOOD.decode().encode("utf-16")},
    "a NUL": {"given.yaml": _GOOD + b"seeds: [\0]\n"},
    "control characters": {"given.yaml": _GOOD + b"seeds: ['\x1b[31m']\n"},
    "an escaped control character in a key": {"given.yaml": _GOOD + b'"\\e[31mred": 1\n'},
    "an escaped control character in a value": {"given.yaml": _GOOD + b'stages: ["\\e]0;title\\a"]\n'},
    "a lone surrogate": {"given.yaml": _GOOD + b'prompt: {template: "\\ud800 {question}", system: 3}\n'},
    "an alias of itself": {"given.yaml": _GOOD + b"training: &a {x: *a}\n"},
    "an unknown alias": {"given.yaml": _GOOD + b"training: *nowhere\n"},
    "aliases of aliases": {"given.yaml": _GOOD + _BOMB},
    "aliases of aliases in training": {
        "given.yaml": _GOOD + b"training:\n" + b"".join(b"  " + line + b"\n" for line in _BOMB.splitlines())
    },
    "merge keys of merge keys": {
        "given.yaml": _GOOD
        + b"m0: &m0 {x: 1}\n"
        + b"".join(b"m%d: &m%d {<<: [%s]}\n" % (n, n, b", ".join([b"*m%d" % (n - 1)] * 9)) for n in range(1, 9))
    },
    "10,000 levels of lists": {"given.yaml": _GOOD + b"seeds: " + b"[" * 10_000 + b"]" * 10_000 + b"\n"},
    "10,000 levels of mappings": {
        "given.yaml": _GOOD + b"training: " + b"{a: " * 10_000 + b"1" + b"}" * 10_000 + b"\n"
    },
    "200 levels in training": {"given.yaml": _GOOD + b"training: " + b"{a: " * 200 + b"1" + b"}" * 200 + b"\n"},
    "10 MB of comments": {"given.yaml": _GOOD + b"# padding padding padding\n" * 400_000},
    "10 MB of list": {"given.yaml": _GOOD + b"seeds: [" + b"1," * 5_000_000 + b"1]\n"},
    "an integer of 10,000 digits": {"given.yaml": _GOOD + b"seeds: [" + b"9" * 10_000 + b"]\n"},
    "a float of 10,000 digits": {"given.yaml": _GOOD + b"training: {learning_rate: 0." + b"9" * 10_000 + b"e99999}\n"},
    "an object of Python": {"given.yaml": _GOOD + b"training: !!python/object/apply:os.system ['touch canary']\n"},
    "a module of Python": {"given.yaml": _GOOD + b"training: !!python/module:os\n"},
    "an unknown tag": {"given.yaml": _GOOD + b"seeds: !mine [0]\n"},
    "a binary": {"given.yaml": _GOOD + b"prompt: {template: !!binary aGVsbG8=}\n"},
    "a set": {"given.yaml": _GOOD + b"seeds: !!set {0, 1}\n"},
    "a timestamp for a number": {"given.yaml": _GOOD + b"seeds: [2026-01-01]\n"},
    "extends itself": {"given.yaml": b"extends: given.yaml\n" + _GOOD},
    "extends in a circle": {"given.yaml": b"extends: b.yaml\n", "b.yaml": b"extends: given.yaml\n"},
    "extends nothing": {"given.yaml": b"extends: nowhere.yaml\n" + _GOOD},
    "extends a list": {"given.yaml": b"extends: [quickstart]\n" + _GOOD},
    "extends /dev/zero": {"given.yaml": b"extends: /dev/zero\n" + _GOOD},
    "extends /dev/urandom": {"given.yaml": b"extends: /dev/urandom\n" + _GOOD},
    "extends /dev/stdin": {"given.yaml": b"extends: /dev/stdin\n" + _GOOD + b"unknown: 1\n"},
    "extends a folder": {"given.yaml": b"extends: below\n" + _GOOD, "below/": b""},
    "extends a broken file": {"given.yaml": b"extends: b.yaml\n" + _GOOD, "b.yaml": b"seeds: [0\n"},
    "keys that look like numbers": {"given.yaml": _GOOD + b"1: 2\nnull: 3\ntrue: 4\n"},
    "an octal number": {"given.yaml": _GOOD + b"sample: {num_samples: 010}\n"},
    "a sexagesimal number": {"given.yaml": _GOOD + b"sample: {num_samples: 1:30}\n"},
    "yes for true": {"given.yaml": _GOOD + b"label: {include_reference: [yes]}\n"},
}
