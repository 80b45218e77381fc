"""The section `hub`: where the trained models are pushed to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HubConfig:
    """Pushes the trained models to the Hugging Face hub once all of the run is evaluated.

    The token is that of HF_TOKEN or of `hf auth login`. docs/lora.md says what is pushed.
    """

    repo: str
    """Start of the repositories' names, as `account/name`. Each method and seed has its own:
    `account/name-METHOD-seedS`. If no method is trained, `vft` stands for METHOD."""
    private: bool = True
    """Make new repositories private. If true, a repository that is public already is refused."""
