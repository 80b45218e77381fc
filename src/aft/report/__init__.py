"""The report of a run: tables, pictures, JSON."""

from .build import build_report, write_report

__all__ = ["build_report", "write_report"]
