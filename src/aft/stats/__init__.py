"""Estimates with their uncertainty: intervals, bootstrap, paired comparisons."""
