"""What the benchmarks compare with: the same models, written the straightforward way or with self-attention."""
