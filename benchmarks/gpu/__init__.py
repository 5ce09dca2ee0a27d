"""Everything that has to be checked or measured on a GPU, in one command: ``python -m benchmarks.gpu``."""
