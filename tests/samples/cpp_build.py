"""Builds the C++ library once for all tests, as another project would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "cpp.md"


class CppBuild:
    """The C++ library's client, `vis4mer_classify`, and the programs of tests/samples/cpp."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # ONNX Runtime's headers are no part of its Python package; ONNXRUNTIME_INCLUDE_DIR names their folder.
        headers = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
        source = folder / "example.cpp"
        source.write_text(GUIDE.read_text().split("```cpp\n")[1].split("```")[0])
        configure: list[str | Path] = ["cmake", "-S", Path(__file__).parent / "cpp", "-B", folder]
        if shutil.which("ninja"):
            configure += ["-G", "Ninja"]
        definitions = {"Python": sys.executable, "CMAKE_COMPILE_WARNING_AS_ERROR": "ON", "example": source}
        if headers:
            definitions["ONNXRUNTIME_INCLUDE_DIR"] = headers
        configure += [item for name, value in definitions.items() for item in ("-D", f"{name}={value}")]
        for command in (configure, ["cmake", "--build", folder, "--parallel", "2"]):
            done = subprocess.run(command, capture_output=True, text=True)
            if missing := [line.strip() for line in done.stderr.splitlines() if "apt install" in line]:
                pytest.skip(missing[0])
            assert done.returncode == 0, done.stdout + done.stderr
        self.formats = self.run("api", "formats").stdout.split()

    def run(self, program: str, *arguments: object, **environment: str) -> "subprocess.CompletedProcess[str]":
        command = [str(self.folder / program), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)

    def refusal(self, program: str, *arguments: object, **environment: str) -> str:
        """Returns the one line on stderr of a run that failed and printed no result."""
        done = self.run(program, *arguments, **environment)
        assert done.returncode == 1, done
        (line,) = done.stderr.splitlines()
        return line

    def require(self, format: str) -> None:
        """Skips the test if the build lacks the backend of a format."""
        if format not in self.formats:
            pytest.skip("needs the headers of ONNX Runtime: set ONNXRUNTIME_INCLUDE_DIR")
