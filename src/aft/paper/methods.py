"""The methods of the tables: name -> changes to `align`. A suffix makes a variant: `aft-bc-beta0.3`, `aft-dc-k8`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import AftError, nearest

# aft-bc changes nothing: `align` has the boundary, with the configuration's beta
METHODS: dict[str, dict[str, Any]] = {
    "vft-more": {"supervise": "reference", "loss": None},
    "rft": {"supervise": "reference_and_positives", "loss": None},
    "rft-bc": {"supervise": "reference_and_positives"},  # ours: RFT, and AFT's term beside it
    "aft": {"loss": {"constraint": {"name": "none"}}},
    "aft-dc": {"loss": {"constraint": {"name": "detached"}}},
    "aft-dc2": {"loss": {"constraint": {"name": "detached", "lowest_only": True}}},
    "aft-bc": {},
    # constraints without a constant, ours and of later papers
    **{
        name: {"loss": {"constraint": keys}}
        for name, keys in {
            "aft-tapered": {"name": "tapered", "logps": "sum"},
            "aft-tapered-mean": {"name": "tapered", "logps": "mean"},
            "aft-pass-rate": {"name": "pass_rate", "logps": "sum"},
            "aft-pass-rate-mean": {"name": "pass_rate", "logps": "mean"},
            "aft-balanced": {"name": "balanced", "logps": "mean"},
            "aft-balanced-sum": {"name": "balanced", "logps": "sum"},
            "aft-floor": {"name": "floor"},
            "aft-positive-floor": {"name": "positive_floor"},
            "aft-controlled": {"name": "controlled"},
        }.items()
    },
    "rft-balanced": {
        "supervise": "reference_and_positives",
        "loss": {"constraint": {"name": "balanced", "logps": "mean"}},
    },
    "rrhf": {"loss": {"name": "rrhf"}},
    "rrhf-dc": {"loss": {"name": "rrhf", "constraint": {"name": "detached"}}},
    "pro": {"loss": {"name": "pro"}},
    "pro-dc": {"loss": {"name": "pro", "constraint": {"name": "detached"}}},
    "pro-no-tau": {"loss": {"name": "pro", "dynamic_temperature": False}},
    "pro-no-tau-dc": {"loss": {"name": "pro", "dynamic_temperature": False, "constraint": {"name": "detached"}}},
    "dpo": {"loss": {"name": "dpo", "logps": "sum"}},
    "dpo-dc": {"loss": {"name": "dpo", "logps": "sum", "constraint": {"name": "detached"}}},
}


@dataclass(frozen=True)
class Control:
    """`method` with the steps in which it trains on as many `unit` as `model` did: sequences or response_tokens."""

    method: str
    model: str
    unit: str


# equal steps are not equal work: AFT computes every candidate of a question, RFT only the right ones
CONTROLS = {
    "rft-sequences": Control("rft", "aft-dc", "sequences"),
    "rft-tokens": Control("rft", "aft-dc", "response_tokens"),
}
METHODS |= {name: METHODS[control.method] for name, control in CONTROLS.items()}
# names of the same methods in other configurations of this repository
ALIASES = {
    "aft": ("aft-none", "aft-unconstrained"),
    "aft-dc": ("aft-dcl", "aft-detached"),
    "aft-bc": ("aft-bcl", "aft-boundary"),
}
NUMBER = r"-?\d+(?:\.\d+)?"
_VARIANT = re.compile(rf"(.+?)-(beta|k|w)({NUMBER})")


def changes(name: str) -> dict[str, Any]:
    """The changes to `align` of a method or of a variant. Raises `AftError` for an unknown name."""
    match = _VARIANT.fullmatch(name)
    base = match[1] if match else name
    if base not in METHODS:
        raise AftError(f"method {name}: unknown.{nearest(base, METHODS)} Allowed: {', '.join(METHODS)}")
    if match is None:
        return dict(METHODS[base])
    found, value = METHODS[base], float(match[3])
    if match[2] == "k":
        return {**found, "max_candidates": int(match[3])}
    loss = found.get("loss", {})
    if match[2] == "beta":
        return {**found, "loss": {**loss, "constraint": {"name": "boundary", "beta": value}}}
    return {**found, "loss": {**loss, "weight": value}}


def parent(name: str) -> str:
    """The method that a variant belongs to, whose learning rate it takes; itself where it is none."""
    match = _VARIANT.fullmatch(name)
    return match[1] if match else name


def variants(name: str, kind: str, values: Sequence[float]) -> tuple[str, ...]:
    """Names of variants: `variants("aft-dc", "k", [3, 6])` is aft-dc-k3, aft-dc-k6."""
    return tuple(f"{name}-{kind}{value:g}" for value in values)


def resolve(name: str, present: Sequence[str]) -> str | None:
    """The name of a method in a run, its own or an alias; None if the run does not have it."""
    return next((known for known in (name, *ALIASES.get(name, ())) if known in present), None)


def fits(name: str, loss: Mapping[str, Any] | None) -> bool:
    """True if a trained model has the `align.loss` of the method of its name, or if no method has that name."""
    base = parent(re.sub(r"-lr[0-9.e+-]+$", "", name))
    known = next((own for own in METHODS if base in (own, *ALIASES.get(own, ()))), None)
    if known is None:
        return True
    wanted = METHODS[known].get("loss", {"constraint": {"name": "boundary"}})
    if wanted is None or loss is None:
        return wanted is loss
    constraint = wanted.get("constraint", {"name": "none"})
    own = loss["constraint"]
    return bool(
        loss["name"] == wanted.get("name", "alignment")
        and own["name"] == constraint["name"]
        and own.get("lowest_only", False) == constraint.get("lowest_only", False)
        and own.get("logps") == constraint.get("logps")
    )
