"""Building, finding and loading the native ops, and the errors where they are missing or broken."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from vis4mer.errors import OpsError
from vis4mer.models.s4 import SSMConv
from vis4mer_kernels import build, library, ops

needs_compiler = pytest.mark.skipif(build.compiler() is None, reason="no C++ compiler")

_USE = """
import logging, sys, torch
logging.basicConfig(level=logging.INFO, format="%(message)s")
from vis4mer.errors import OpsError
from vis4mer_kernels import ops
u, kernel, D = torch.ones(1, 1, 2), torch.ones(1, 2), torch.zeros(1)
try:
    for _ in range(2):
        print(ops.long_conv(u, kernel, D, impl=sys.argv[1]).round(decimals=5).flatten().tolist())
except OpsError as error:
    print(error)
"""


def _use(cache: Path, impl: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs an op in a process of its own, with its own cache of libraries."""
    return subprocess.run(
        [sys.executable, "-c", _USE, impl],
        env=os.environ | {"XDG_CACHE_HOME": str(cache)} | environment,
        capture_output=True,
        text=True,
        check=True,
    )


@pytest.mark.parametrize(("impl", "environment"), [("auto", {}), ("native", {}), ("auto", {"VIS4MER_OPS": "native"})])
def test_an_absent_library_is_a_fallback_with_one_warning_unless_requested(
    tmp_path: Path, impl: str, environment: dict[str, str]
) -> None:
    done = _use(tmp_path, impl, **environment)
    if "native" in (impl, *environment.values()):
        assert "impl='native': there are no native ops for cpu: not built" in done.stdout
        assert "python -m vis4mer_kernels.build" in done.stdout
    else:
        assert done.stdout.splitlines() == ["[1.0, 2.0]"] * 2
        assert done.stderr.count("no native ops for cpu") == 1


def _copy_library(cache: Path) -> Path:
    (cache / "vis4mer").mkdir()
    built = build.build()
    for file in (built, built.with_suffix(".json")):
        shutil.copy(file, cache / "vis4mer" / file.name)
    return cache / "vis4mer" / built.name


@needs_compiler
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.95])
def test_a_damaged_library_is_an_error_and_not_loaded(tmp_path: Path, kept: float) -> None:
    path = _copy_library(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    done = _use(tmp_path, "auto")
    assert f"library={str(path)!r}: is not the file that was built" in done.stdout
    assert "delete it and python -m vis4mer_kernels.build" in done.stdout


@needs_compiler
def test_a_library_that_does_not_load_is_an_error_with_its_causes(tmp_path: Path) -> None:
    path = _copy_library(tmp_path)
    path.write_bytes(b"\x7fELF and nothing more")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps({"sha256": digest, "compilers": []}))
    assert f"library={str(path)!r}: does not load" in _use(tmp_path, "auto").stdout


def test_an_error_without_a_message_is_named_by_its_type(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError

    monkeypatch.setattr(build, "find", lambda: Path("ops.so"))
    monkeypatch.setattr("torch.ops.load_library", fail)
    with pytest.raises(OpsError, match=r"^library='ops.so': does not load \(OSError\)"):
        library.library.__wrapped__()


@needs_compiler
def test_a_built_library_is_used_without_a_compiler(tmp_path: Path) -> None:
    _copy_library(tmp_path)
    done = _use(tmp_path, "native", PATH="", CXX="no-such-compiler")
    assert done.stdout.splitlines() == ["[1.0, 2.0]"] * 2
    assert not done.stderr


def test_a_missing_compiler_is_one_line(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vis4mer_kernels.build"],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path), "CXX": "no-such-compiler"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "vis4mer: error: compiler=None: the native ops need a C++20 compiler; install g++ or set CXX"
    ]


def test_only_the_first_installation_on_the_path_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        folder = tmp_path / name / "vis4mer_kernels_csrc" / "cpu"
        folder.mkdir(parents=True)
        (folder / f"{name}.cpp").touch()
    monkeypatch.syspath_prepend(tmp_path / "second")
    monkeypatch.syspath_prepend(tmp_path / "first")
    assert build._sources(".cpp") == [tmp_path / "first" / "vis4mer_kernels_csrc" / "cpu" / "first.cpp"]


def test_a_failing_compiler_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", "/bin/false")
    monkeypatch.setenv("CUDA_HOME", "/nowhere")
    with pytest.raises(OpsError, match="compiler='/bin/false': fails"):
        build.build()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_an_unknown_implementation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIS4MER_OPS", "fast")
    with pytest.raises(OpsError, match="VIS4MER_OPS='fast': must be one of auto, reference, native"):
        library.native("auto", "cpu")


@needs_compiler
def test_compiled_layers_equal_eager_ones() -> None:
    torch.manual_seed(0)
    conv = SSMConv(channels=4, d_state=8, length=60)
    u = torch.randn(2, 4, 60, requires_grad=True)
    expected = conv(u)
    grads = torch.autograd.grad(expected.square().sum(), [u, *conv.parameters()])
    compiled = torch.compile(conv, fullgraph=True)
    actual = compiled(u)
    torch.testing.assert_close(actual, expected)
    for a, b in zip(torch.autograd.grad(actual.square().sum(), [u, *conv.parameters()]), grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_tracing_leaves_nothing_behind() -> None:
    """Traced tensors hold no numbers, so a later layer of the same length must not use them."""
    length = 1361  # not used by another test
    u = torch.randn(1, 2, length)
    torch.export.export(SSMConv(channels=2, d_state=8, length=length), (u,), strict=False)
    assert torch.isfinite(SSMConv(channels=2, d_state=8, length=length)(u)).all()


@needs_compiler
def test_autocast_keeps_the_activations_type() -> None:
    torch.manual_seed(0)
    u, kernel, D = torch.randn(2, 4, 60).bfloat16(), torch.randn(4, 60), torch.randn(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = ops.long_conv(u, kernel, D, impl="native")
    assert y.dtype == torch.bfloat16
    assert torch.equal(y, ops.long_conv(u, kernel, D, impl="native"))
