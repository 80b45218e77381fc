"""The model card of a trained checkpoint."""

from __future__ import annotations

import json

from huggingface_hub import ModelCardData

from .. import __version__
from ..config import Config, align_config
from ..markdown import code, inline
from ..shown import shown
from ..tasks import hub_names
from .plan import Unit


def model_card(config: Config, unit: Unit, start: str | None) -> str:
    """Returns Markdown with the hub's metadata: the checkpoint's task, start, loss and prompt template."""
    align = align_config(config, unit.name or "") if unit.stage == "align" else None
    base = config.model.name_or_path
    names = hub_names(config.data) or None
    metadata = ModelCardData(library_name="transformers", tags=["aft", unit.stage], base_model=base, datasets=names)
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
    lines = [
        "---",
        shown(metadata.to_yaml()),
        "---",
        "",
        f"# {inline(str(unit))}",
        "",
        f"Trained with aft {__version__} (Alignment Fine-Tuning, arXiv 2309.02144).",
        "",
        f"- Task: {config.data.name}{f'; the final answer stands after {code(marker)}' if marker else ''}",
        f"- Started from: {inline(start or 'random weights')}",
        f"- Loss: {loss}",
        f"- Prompt template: {code(json.dumps(config.prompt.template))}",
        "- Inputs, versions, steps and times: `manifest.json`; training log: `trainer_state.json`",
        "",
    ]
    return "\n".join(lines)
