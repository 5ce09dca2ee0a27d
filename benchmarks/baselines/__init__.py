"""Baselines of the benchmarks: the same models without the project's optimisations, or with self-attention."""
