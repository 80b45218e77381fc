"""Starts stages: checks before a run, processes, and the units in each process."""
