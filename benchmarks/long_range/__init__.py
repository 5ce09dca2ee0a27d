"""How far models remember: generated movies, contestants, training, report. `benchmarks/long_range.py` runs it."""

import sys
from pathlib import Path

# The movies are the samples': scripts that import their package from the folder they lie in.
sys.path.insert(0, str(Path(__file__).parents[2] / "samples"))
