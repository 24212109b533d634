"""Comparison of routes, sweeps, tuning, and figures for the notebooks."""
