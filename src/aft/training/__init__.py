"""The training loop, its objective and its log."""
