import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "samples"

# The commands run from the repository root, and so do their imports.
sys.path.insert(0, str(SAMPLES.parent))


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES
