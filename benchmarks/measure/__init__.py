"""Quantities that several benchmarks measure: time, peak memory, the bare matrix products, accuracy."""
