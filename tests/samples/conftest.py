import sys
from pathlib import Path

import pytest

SAMPLES = Path(__file__).parents[2] / "samples"

# The samples are scripts: they import their package from the folder they lie in.
sys.path.insert(0, str(SAMPLES))


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES
