"""The model card: metadata that the hub reads, and a body that says how the checkpoint was made."""

from __future__ import annotations

import yaml

from aft.config import load_config
from aft.stages.card import model_card
from aft.stages.plan import Plan


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
