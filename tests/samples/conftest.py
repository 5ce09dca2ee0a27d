import shutil
from pathlib import Path

import pytest

from tests.samples.cpp_build import CppBuild

SAMPLES = Path(__file__).parents[2] / "samples"


@pytest.fixture(scope="session")
def samples() -> Path:
    return SAMPLES


@pytest.fixture(scope="session")
def cpp(tmp_path_factory: pytest.TempPathFactory) -> CppBuild:
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("needs cmake and a C++ compiler")
    return CppBuild(tmp_path_factory.mktemp("cpp"))
