"""What AOTInductor is asked for where there is a GPU; stand-ins take the place of its compiler."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError
from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer_export.targets import pt2
from vis4mer_export.targets.registry import target

INTERFACE = GraphInterface((TensorSpec("x", "float32", ("batch", 2)),), (TensorSpec("y", "float32", ("batch", 2)),))


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Settings of every compilation."""
    seen: list[dict[str, Any]] = []

    def compile_and_package(program: Any, package_path: str, inductor_configs: dict[str, Any]) -> None:
        # Inductor itself refuses a setting that it does not have.
        torch._inductor.config.patch(inductor_configs)
        seen.append(inductor_configs)

    monkeypatch.setattr(torch.export, "export", lambda *arguments, **keywords: None)
    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", compile_and_package)
    return seen


def compile_for(kind: str) -> None:
    example = SimpleNamespace(device=torch.device(kind))
    source: Any = SimpleNamespace(module=None, example=example, interface=INTERFACE)
    pt2._compile(source, Path("graph.pt2"))


@pytest.mark.parametrize("on_path", [True, False])
def test_packages_for_gpus_hold_code_for_newer_ones_too(
    compiled: list[dict[str, Any]], on_path: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler = tmp_path / "bin" / "nvcc"
    compiler.parent.mkdir()
    compiler.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(compiler.parent) if on_path else "")
    monkeypatch.setenv("CUDA_HOME", "" if on_path else str(tmp_path))
    compile_for("cuda")
    assert compiled == [{"aot_inductor.emit_multi_arch_kernel": True}]


def test_without_nvcc_a_package_is_for_one_type_of_gpu(
    compiled: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CUDA_HOME", raising=False)
    compile_for("cuda")
    assert compiled == [{}]
    assert "there is no nvcc, so the package runs only on GPUs with this one's compute capability" in caplog.text


def test_packages_for_the_cpu_take_its_settings_alone(compiled: list[dict[str, Any]]) -> None:
    compile_for("cpu")
    assert compiled == [{"freezing": True}]


@pytest.mark.parametrize(("text", "device"), [("", None), ("cpu", CPU), ("cuda", Device("cuda"))])
def test_a_package_is_for_a_kind_of_device(text: str, device: Device | None) -> None:
    assert target("pt2").parse_options({"device": text}) == {"device": device}


def test_a_certain_gpu_is_not_a_kind() -> None:
    pt2_target = target("pt2")
    with pytest.raises(ConfigError, match=r"^device='cuda:1': format pt2 compiles for a kind of device, .* use cuda,"):
        pt2_target.check(pt2_target.parse_options({"device": "cuda:1"}))
