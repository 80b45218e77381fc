"""Starts the stages: checks, processes, units."""
