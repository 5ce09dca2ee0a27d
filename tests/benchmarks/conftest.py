import sys
from pathlib import Path

# The commands run from the repository root, and so do their imports.
sys.path.insert(0, str(Path(__file__).parents[2]))
