"""Tables of measured figures, one command each: ``python -m benchmarks`` lists them.

A table is a module of this folder that defines a `benchmarks.harness.benchmark.Benchmark` and runs it as a command. The
folders below hold what the tables share, one subject each.
"""
