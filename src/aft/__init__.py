"""aft: Alignment Fine-Tuning for LLM reasoning (arXiv 2309.02144). Importing this package imports nothing heavy."""

__version__ = "0.1.0"
