"""Plots of benchmark results, written beside the result files."""
