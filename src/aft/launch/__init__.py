"""Starts stages: checks before a run, processes, and the units in each process."""

from .conductor import conduct, open_folder, show_plan
from .units import run_here
from .worker import StageFailed

__all__ = [
    "StageFailed",
    "conduct",
    "open_folder",
    "run_here",
    "show_plan",
]
