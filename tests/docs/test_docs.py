"""The documents say what the code does: links, commands, keys and examples are checked against it."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import re
import runpy
import shlex
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import TrainingArguments

from aft.cli.convert import parse_arguments
from aft.cli.report import parse_table
from aft.config import load_config
from aft.config.load import parse_overrides, read_yaml
from aft.config.packaged import model_file_names, part_names, run_names
from aft.config.schema import STAGES, Config
from aft.config.starter import TASK_NAMES
from aft.training.arguments import make_arguments

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = [
    path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name not in ("runs", "build")
]
PAGES = sorted([*ROOT.glob("*.md"), *(page for folder in FOLDERS for page in folder.rglob("*.md"))])
MANUAL = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

FENCE = re.compile(r"^( *)```([^\n]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
SECTIONS = {field.name for field in dataclasses.fields(Config)}
KEY = re.compile(rf"(?:{'|'.join(sorted(SECTIONS))})(?:\.[A-Za-z_][\w-]*)+")
FILE_ENDINGS = {"json", "jsonl", "md", "png", "py", "safetensors", "yaml"}
FREE = ("data.options", "model.from_scratch.config")  # what stands below belongs to others
SWITCHES = {"--all", "--audit", "--dry-run", "--help", "--html", "--no-picture", "--plan", "--repair", "--sbatch"}
SWITCHES |= {"--verify"}
NAMES = {*run_names(), *part_names(), *model_file_names()}
# what a YAML excerpt of the documents is laid over, so that it makes a whole configuration
REST = {"output_dir": "runs/example", "data": {"name": "arithmetic"}, "model": {"name_or_path": "a/b"}}


def name_of(value: Any) -> str | None:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else None


def blocks(page: Path, kind: str) -> list[tuple[int, str]]:
    """(line number, text) of a page's fenced blocks whose info string is `kind`."""
    text = page.read_text(encoding="utf-8")
    return [
        (text.count("\n", 0, match.start()) + 2, re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE))
        for match in FENCE.finditer(text)
        if match[2].strip() == kind
    ]


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def all_blocks(kind: str) -> list[Any]:
    found = [(page, line, text) for page in MANUAL for line, text in blocks(page, kind)]
    return [pytest.param(page, line, text, id=f"{name_of(page)}:{line}") for page, line, text in found]


# ---- configuration.md ----


def test_configuration_page_is_what_the_schema_says():
    script = runpy.run_path(str(ROOT / "scripts" / "write_configuration.py"))
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert page == script["render"](), "run: python scripts/write_configuration.py"


# ---- links ----


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives a page's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_relative_links_resolve(page):
    broken = []
    for match in LINK.finditer(SPAN.sub("", prose(page))):
        target = match[1] or match[2]
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        if not path.exists() or (anchor and path.suffix == ".md" and anchor not in anchors(path)):
            broken.append(target)
    assert broken == []


# ---- keys ----


def key_exists(key: str) -> bool:
    """Whether a dotted key is one of the schema's, of a method's or of TrainingArguments."""
    if key.startswith(FREE):
        return True
    parts = key.split(".")
    if "training" in parts[:-1]:
        inner = parts[parts.index("training") + 1 :]
        return len(inner) == 1 and inner[0] in TrainingArguments.__dataclass_fields__
    if parts[0] == "methods" and len(parts) > 1:
        return len(parts) == 2 or key_exists(".".join(["align", *parts[2:]]))
    classes: list[Any] = [Config]
    while parts:
        part = parts.pop(0)
        hints = [typing.get_type_hints(cls)[part] for cls in classes if part in typing.get_type_hints(cls)]
        if not hints:
            return False
        classes = [c for hint in hints for c in (hint, *typing.get_args(hint)) if dataclasses.is_dataclass(c)]
        if any(typing.get_origin(hint) is dict for hint in hints) and classes:
            del parts[:1]  # a name of the user's own
    return True


@pytest.mark.parametrize(
    ("key", "exists"),
    [
        ("align.loss.constraint.beta", True),
        ("align.loss.constraint.betta", False),
        ("data.keep_annotations", True),
        ("data.parts.aqua.share", True),
        ("data.parts.aqua.data.num_train", True),
        ("data.parts.aqua.number", False),
        ("data.options.max_value", True),
        ("evaluate.assessment.per_label", True),
        ("methods.aft-bcl.loss.weight", True),
        ("methods.aft-bcl.los", False),
        ("seeds", True),
        ("training.learning_rate", True),
        ("vft.training.learnin_rate", False),
    ],
)
def test_key_exists(key, exists):
    assert key_exists(key) == exists


@pytest.mark.parametrize("page", MANUAL, ids=name_of)
def test_every_key_in_the_text_exists(page):
    unknown = []
    for span in SPAN.findall(prose(page)):
        # `key`, `key=value` and `key: value`
        match = re.match(rf"(?:--)?({KEY.pattern})(?=$|=|: )", span)
        if match and match[1].rpartition(".")[2] not in FILE_ENDINGS and not key_exists(match[1]):
            unknown.append(match[1])
    assert unknown == []


# ---- commands ----


def commands() -> Iterator[tuple[Path, str]]:
    """Every command line of the project's own commands: in spans and in blocks, comments removed."""
    for page in [*MANUAL, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text(encoding="utf-8").replace("\\\n", " ")
        for match in re.finditer(r"(?<![\w/.'\"-])aft-[a-z]+ --[^`\n]*", text):
            yield page, match[0].split(" #")[0].replace(" [key=value ...]", "").rstrip(" .;")


def parse_command(command: str) -> tuple[str, str | None, str | None, list[str]]:
    """(program, --config, --stage, what is left: overrides) of a command line."""
    program, *arguments = shlex.split(command.split(" > ")[0])  # into a file
    valued: dict[str, str | None] = {"--config": None, "--stage": None, "--export-lm-eval": None}
    overrides = []
    while arguments:
        argument = arguments.pop(0)
        if argument in valued:
            valued[argument] = arguments.pop(0)
        elif argument not in SWITCHES:
            overrides.append(argument)
    return program, valued["--config"], valued["--stage"], overrides


def test_every_command_line_would_be_accepted():
    entries = importlib.metadata.entry_points(group="console_scripts")
    programs = {entry.name for entry in entries if entry.value.startswith("aft.")}
    found = list(commands())
    assert {"aft-train", "aft-convert"} <= {command.split()[0] for _, command in found}
    for page, command in found:
        if command.startswith("aft-convert "):  # which takes no configuration
            parse_arguments(shlex.split(command)[1:])
            assert "aft-convert" in programs
            continue
        if command.startswith("aft-report --table "):  # nor does this
            parse_table(shlex.split(command)[1:])
            continue
        program, config, stage, overrides = parse_command(command)
        problems: list[str] = []
        keys = [key for key, _ in parse_overrides(overrides, problems)]
        unknown = [key for key in keys if not key_exists(key)]
        assert program in programs and stage in (None, "NAME", *STAGES), f"{page.name}: {command}"
        assert problems == [] and unknown == [], f"{page.name}: {command}"
        if config is not None and config.startswith("configs/"):
            load_config(ROOT / config, overrides)
        elif config in NAMES:
            load_config(config, overrides)


def test_every_starter_file_in_the_text_exists():
    named = [match[1] for page in MANUAL for match in re.finditer(r"aft-init ([a-z0-9]+)", page.read_text("utf-8"))]
    assert named and set(named) <= set(TASK_NAMES)


# ---- examples ----


# TRL calls transformers' arguments by their old names
@pytest.mark.filterwarnings("ignore:`(is_)?gradient_checkpointing` is deprecated:FutureWarning")
@pytest.mark.parametrize(("page", "line", "code"), all_blocks("python run"))
def test_python_examples_run(page, line, code):
    exec(compile("\n" * (line - 1) + code, str(page), "exec"), {"__name__": "example"})


@pytest.mark.parametrize(("page", "line", "text"), all_blocks("yaml"))
def test_yaml_examples_load(page, line, text, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    excerpt = read_yaml(path)
    extended = excerpt.pop("extends", [])
    ours = [name for name in ([extended] if isinstance(extended, str) else extended) if name in NAMES]
    (tmp_path / "rest.yaml").write_text(yaml.safe_dump(REST), encoding="utf-8")
    path.write_text(yaml.safe_dump({"extends": ["rest.yaml", *ours], **excerpt}), encoding="utf-8")
    config = load_config(path)
    for section in (config.training, config.vft.training, config.align.training):
        make_arguments(section, tmp_path, seed=0, data_seed=0, cpu=True)


# ---- the index and the site ----


def test_the_index_and_the_site_have_every_page():
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}
    index = set(re.findall(r"\]\(([\w.-]+\.md)\)", (ROOT / "docs" / "README.md").read_text(encoding="utf-8")))
    site = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    assert index == pages
    assert {name for part in site[1:] for names in part.values() for name in names} == pages
    assert site[0] == {"Contents": "README.md"}


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) < 120
