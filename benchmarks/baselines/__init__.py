"""What the benchmarks compare with: the same models without the project's optimisations, or with self-attention."""
