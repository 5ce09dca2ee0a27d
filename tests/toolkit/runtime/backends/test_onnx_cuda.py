"""ONNX Runtime's own CUDA provider, on stand-ins for the CUDA libraries that it loads.

Kernels do nothing there, so results have no meaning. What counts is what the provider does around them: on which stream
it works, when it waits, and what memory it keeps.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vis4mer.runtime.backends.onnx import import_onnxruntime

from ...fake_driver import STREAM

ROOT = Path(__file__).parents[4]
STUB = Path(__file__).parent / "cuda_stub" / "cudart.cpp"
SITE = Path(sysconfig.get_path("purelib"))
INCLUDES = [path for path in (SITE / "nvidia" / "cu13" / "include", Path("/usr/local/cuda/include")) if path.is_dir()]
PROVIDER = Path(import_onnxruntime().__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"

# Functions that have to do more than succeed: those that return a handle through their first parameter, cuBLAS's
# search for algorithms, which returns their number, and cuDNN's version.
CREATES = re.compile(r"Create|Init$")
SPECIAL = {
    "cublasLtMatmulAlgoGetHeuristic": "(void*, void*, void*, void*, void*, void*, void*, int, void*, int* found)"
    " { return *found = 1, 0; }",
    "cublasLtMatmulAlgoInit": "() { return 0; }",
    "cudnnGetVersion": "() { return 92400; }",
}

RUN = """
import sys
sys.path.insert(0, {root!r})
import numpy as np
from tests.toolkit.fake_driver import FakeDriver
from vis4mer.devices import cuda, device
from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import Device, Driver
from vis4mer.runtime.backends.onnx import import_onnxruntime
from vis4mer.runtime.bundle import Bundle

driver = FakeDriver()
cuda.load_driver = lambda: driver
cuda.probe_driver = device.probe_driver = lambda: Driver("13.0", ("a GPU",), "")
import_onnxruntime().preload_dlls = lambda directory: None
bundle = Bundle.open({bundle!r})
name = next(iter(bundle.model.heads))
run = bundle.open_graph(name, Device("cuda"))
source = bundle.interface[name].input
for count in (1, 64, 64):
    print("== begin", file=sys.stderr, flush=True)
    for _ in range(count):
        run(DeviceArray.upload(np.zeros(source.shape(batch=4), source.dtype), Device("cuda")))
assert driver.copies.count("DtoH") == 1, "the warm-up's result, and nothing else"
print("done")
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with stand-ins for every CUDA library that the provider links."""
    missing = [tool for tool in ("g++", "nm", "readelf") if shutil.which(tool) is None]
    if missing or not INCLUDES or not PROVIDER.is_file():
        pytest.skip(f"needs {', '.join(missing) or 'the CUDA headers and ONNX Runtime with its CUDA provider'}")
    folder = tmp_path_factory.mktemp("cuda")
    symbols: dict[str, list[str]] = {library: [] for library in _linked()}
    for symbol, library in _undefined():
        symbols[library].append(symbol)
    for library, names in symbols.items():
        _build(folder, library, names)
    return folder


@pytest.fixture(scope="module")
def cudnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a stand-in for cuDNN, which the provider loads by name."""
    found = set(re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", PROVIDER.read_bytes()))
    folder = tmp_path_factory.mktemp("cudnn")
    _build(folder, "libcudnn.so.9", sorted(name.decode() for name in found))
    return folder


def _build(folder: Path, library: str, names: list[str]) -> None:
    sources, versions, flags = [folder / f"{library}.cpp"], folder / f"{library}.map", []
    if library.startswith("libcudart"):
        sources.append(STUB)
        names = sorted(set(names) - set(re.findall(r"\b(\w+)\(", STUB.read_text())))
    sources[0].write_text("\n".join(map(_definition, names)))
    if library != "libcuda.so.1":  # the driver's functions have no version
        versions.write_text(f"{library} {{ global: *; }};\n")
        flags = [f"-Wl,--version-script={versions}"]
    flags += ["-w", "-shared", "-fPIC", *(f"-I{path}" for path in INCLUDES), f"-Wl,-soname,{library}"]
    subprocess.run(["g++", *flags, *sources, "-o", folder / library], check=True)


def _linked() -> list[str]:
    text = subprocess.run(["readelf", "-d", PROVIDER], capture_output=True, text=True, check=True).stdout
    return [name for name in re.findall(r"\[(lib\S+)\]", text) if name.startswith(("libcu", "libcudart"))]


def _undefined() -> list[tuple[str, str]]:
    """Returns the CUDA functions that the provider calls, each with its library, whose name is the symbol's version."""
    text = subprocess.run(["nm", "-D", "--undefined-only", PROVIDER], capture_output=True, text=True, check=True).stdout
    names = (line.split()[1].partition("@") for line in text.splitlines() if " U " in line)
    return [(name, version or "libcuda.so.1") for name, _, version in names if name.startswith(("cu", "__cuda"))]


def _definition(symbol: str) -> str:
    """Returns C++ code of a function that succeeds."""
    body = "(void** handle) { static long memory[64]; return *handle = memory, 0; }" if CREATES.search(symbol) else None
    return f'extern "C" long {symbol}{SPECIAL.get(symbol, body or "() { return 0; }")}'


def _run(*libraries: Path) -> subprocess.CompletedProcess[str]:
    code = RUN.format(root=str(ROOT), bundle=str(ROOT / "samples" / "bundle"))
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(map(str, libraries))}
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=300)


def test_the_provider_queues_on_the_given_stream_and_hardly_ever_waits(libraries: Path, cudnn: Path) -> None:
    done = _run(libraries, cudnn)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
    _, first, *rounds = (part.splitlines() for part in done.stderr.split("== begin\n"))
    assert [line for line in first if "wait" in line] == []
    for calls in rounds:
        assert [line for line in calls if line.startswith("copy")], "the trace is not empty"
        assert [line for line in calls if "stream=" in line and f"stream={STREAM:#x}" not in line] == []
        assert [line for line in calls if "kind=2" in line] == [], "something is copied to the host"
        # Two of 64 calls wait, and the provider takes its page-locked memory back.
        assert [line for line in calls if "wait" in line] == [f"wait stream={STREAM:#x}"] * 2
    assert "pinned" not in rounds[-1], "page-locked memory is still being allocated"


def test_a_missing_cudnn_shows_when_the_graph_is_opened(libraries: Path) -> None:
    done = _run(libraries)
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert re.search(
        r"DeviceError: device='cuda:0': \w+ failed on a batch of shape \(1, .*cuDNN is unavailable", message
    )
    assert message.endswith("; install cuDNN: 'vis4mer doctor' lists what is missing")
    assert "onnxruntime_src" not in message
