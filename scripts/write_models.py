"""Write the table of docs/models.md from the files of configs/models. No arguments; a second run changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

from aft.config import Config, load_config
from aft.config.packaged import CONFIGS, model_file_names
from aft.markdown import markdown

PAGE = Path(__file__).resolve().parents[1] / "docs" / "models.md"
BEGIN, END = "<!-- models -->\n", "<!-- /models -->"
HEADER = ("file", "on the hub", "parameters", "trains", "processes", "samples", "licence", "gated")


def render(page: str) -> str:
    """The page with its table made again."""
    before, rest = page.split(BEGIN)
    rows = [_row(name) for name in sorted(model_file_names(), key=_by_family)]
    return f"{before}{BEGIN}{markdown(HEADER, rows, numbers=False)}\n{END}{rest.split(END)[1]}"


def _row(name: str) -> tuple[str, ...]:
    config = load_config(name)
    return (
        f"`{name}`",
        f"`{config.model.name_or_path}`",
        said(name, "parameters"),
        f"{'LoRA' if config.model.lora else 'all weights'}, `{config.model.dtype}`",
        f"`launch.config: {config.launch.config}`" if config.launch.config else "one",
        _samples(config),
        said(name, "licence"),
        said(name, "gated"),
    )


def said(name: str, what: str) -> str:
    """What a line `# what: ...` at the head of a model's file says."""
    found = re.search(rf"^# {what}: (.+)$", (CONFIGS / f"{name}.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    if found is None:
        raise SystemExit(f"{name}: no line '# {what}: ...'")
    return found[1]


def _samples(config: Config) -> str:
    section = config.sample
    return f"vLLM on {section.vllm.tensor_parallel_size} GPUs" if section.engine == "vllm" else section.engine


def _by_family(name: str) -> tuple[str, float]:
    return name.rpartition("-")[0], float(said(name, "parameters").split()[0])


def main() -> None:
    """Writes the page."""
    PAGE.write_text(render(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
