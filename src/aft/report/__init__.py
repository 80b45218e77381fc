"""The report of a run: tables, pictures, JSON."""

from .build import build_report, write_report
from .terminal import summary_table

__all__ = ["build_report", "summary_table", "write_report"]
