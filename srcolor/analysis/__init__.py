"""Comparison of routes, sweeps, tuning, and what the notebooks show."""
