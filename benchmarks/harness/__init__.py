"""Code that all benchmarks share: options, progress, the description of the machine, and the result file."""
