"""The model card: metadata that the hub reads, and a body that says how the checkpoint was made."""

from __future__ import annotations

import re

import yaml

from aft.config import load_config
from aft.stages.card import model_card
from aft.stages.plan import Plan
from aft.yaml_files import yaml_text
from planted_text import ACTS, HTML, is_clean


def cards(tmp_path, data, name):
    """The cards of one run: of VFT, and of DPO with the boundary."""
    path = tmp_path / "run.yaml"
    path.write_text(
        f"output_dir: {tmp_path}/run\ndata: {data}\nmodel: {{name_or_path: {name!r}}}\n"
        "methods: {dpo: {loss: {name: dpo, constraint: {name: boundary}}}}\n"
    )
    config = load_config(path)
    plan = Plan(config)
    return [model_card(config, next(iter(plan.units(stage))), "start/here") for stage in ("vft", "align")]


def test_the_hub_reads_the_metadata(tmp_path):
    for card, stage in zip(cards(tmp_path, "{name: gsm8k}", "2026-11-29"), ("vft", "align"), strict=True):
        _, metadata, body = card.split("---\n", 2)
        assert yaml.safe_load(metadata) == {
            "library_name": "transformers",
            "tags": ["aft", stage],
            "base_model": "2026-11-29",
            "datasets": ["openai/gsm8k"],
        }
        assert f"\n# {stage} " in body and "- Started from: start/here\n" in body
    _, metadata, _ = cards(tmp_path, "{name: arithmetic}", "a/b")[0].split("---\n", 2)
    assert "datasets" not in yaml.safe_load(metadata)


def test_the_body_names_loss_and_constraint(tmp_path):
    vft, dpo = cards(tmp_path, "{name: arithmetic}", "a/b")
    assert "- Loss: L_VFT on the reference chains\n" in vft
    assert (
        "- Loss: L_VFT on the reference chains + 1 × dpo loss, constraint: boundary (beta=0.15, detach_target=True,"
        " mirror=False)\n" in dpo
    )


def test_text_from_outside_stays_where_it_is_written(tmp_path):
    name = f"{ACTS} {HTML}\n---\nlicense: mit".replace("\ud800", "").replace("\x00", "")
    path = tmp_path / "run.yaml"
    data = {"name": "arithmetic"}
    prompt = {"template": f"``` {HTML} {{question}}"}
    path.write_text(yaml_text({"output_dir": "run", "data": data, "model": {"name_or_path": name}, "prompt": prompt}))
    config = load_config(path)
    card = model_card(config, next(iter(Plan(config).units("vft"))), name)
    _, metadata, body = card.split("---\n", 2)
    assert is_clean(card) and set(yaml.safe_load(metadata)) == {"library_name", "tags", "base_model"}
    started = next(line for line in body.splitlines() if line.startswith("- Started from"))
    assert "<" not in re.sub("`.*?`", "", started) and "](" not in started and "---" in started
    template = next(line for line in body.splitlines() if line.startswith("- Prompt template"))
    assert template.startswith('- Prompt template: ````"``` <script>') and template.endswith("````")
