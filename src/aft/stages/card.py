"""The model card of a trained checkpoint."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from .. import __version__
from ..config import Config, align_config
from ..markdown import code, inline
from ..shown import shown
from ..tasks import hub_names
from .plan import Unit


@dataclass(frozen=True)
class Evaluated:
    """What a card on the hub says about a model. `table`: all results with their intervals, in Markdown."""

    name: str
    split: str
    results: Sequence[EvalResult]
    table: str


def model_card(config: Config, unit: Unit, start: str | None, evaluated: Evaluated | None = None) -> str:
    """Returns Markdown with the hub's metadata: the checkpoint's task, start, loss and prompt template.

    `evaluated`: the card is for the hub. It has the metrics, and names no folder of this machine.
    """
    align = align_config(config, unit.name or "") if unit.stage == "align" else None
    lora = config.model.lora if unit.stage != "pretrain" else None
    alone = lora is not None and lora.save == "adapter"
    metadata = ModelCardData(
        library_name="peft" if alone else "transformers",
        tags=["aft", unit.stage, *(["lora"] if lora else [])],
        base_model=_on_hub(config.model.name_or_path) if evaluated else config.model.name_or_path,
        datasets=hub_names(config.data) or None,
        model_name=evaluated.name if evaluated else None,
        eval_results=list(evaluated.results) if evaluated else None,
    )
    loss = "L_VFT on the reference chains"
    if align is not None and align.supervise == "reference_and_positives":
        loss = "L_VFT on the reference chains and every sampled positive (RFT)"
    if align is not None and align.loss is not None:
        constraint = align.loss.constraint
        settings = ", ".join(f"{key}={value}" for key, value in vars(constraint).items() if key != "name")
        loss += f" + {align.loss.weight:g} × {align.loss.name} loss, constraint: {constraint.name}" + (
            f" ({settings})" if settings else ""
        )
    marker = getattr(config.data, "answer_marker", None)
    begun = start if evaluated is None or start is None else _on_hub(start) or Path(start).name
    lines = [
        "---",
        shown(metadata.to_yaml()),
        "---",
        "",
        f"# {inline(str(unit) if evaluated is None else evaluated.name)}",
        "",
        f"Trained with aft {__version__} (Alignment Fine-Tuning, arXiv 2309.02144).",
        "",
        f"- Task: {config.data.name}{f'; the final answer stands after {code(marker)}' if marker else ''}",
        f"- Started from: {inline(begun or 'random weights')}",
        f"- Loss: {loss}",
        *([f"- {_adapter(config, alone=alone)}"] if lora else []),
        f"- Prompt template: {code(json.dumps(config.prompt.template))}",
    ]
    if evaluated is None:
        return "\n".join(
            [*lines, "- Inputs, versions, steps and times: `manifest.json`; training log: `trainer_state.json`", ""]
        )
    licence = "- Licence: not stated here. Those of the base model and of the data bind it."
    return "\n".join([*lines, licence, "", f"## Results on the {evaluated.split} split", "", evaluated.table, ""])


def _adapter(config: Config, *, alone: bool) -> str:
    lora, quantization = config.model.lora, config.model.quantization
    assert lora is not None
    left = "the adapter alone" if alone else "merged into the weights"
    held = f", base model held in 4 bits ({quantization.bnb_4bit_quant_type})" if quantization else ""
    return f"LoRA: rank {lora.r}, {left}{held}"


def _on_hub(name: str | None) -> str | None:
    """The name of a model on the hub; None for a folder."""
    return None if name is None or Path(name).is_absolute() or Path(name).exists() else name
