import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from vis4mer.devices.device import CPU, Device
from vis4mer.errors import BundleError, DeviceError
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.backends.pt2 import Pt2Backend, _compiled_for, quiet_inductor
from vis4mer.runtime.backends.registry import open_with
from vis4mer.runtime.interface import GraphInterface, TensorSpec

torch = pytest.importorskip("torch")

INTERFACE = GraphInterface((TensorSpec("x", "float32", ("batch", 2)),), (TensorSpec("y", "float32", ("batch", 2)),))


def archive(**files: str) -> bytes:
    stored = io.BytesIO()
    with zipfile.ZipFile(stored, "w") as package:
        for name, text in files.items():
            package.writestr(f"model/data/aotinductor/model/{name}.json", text)
    return stored.getvalue()


@pytest.mark.parametrize("kind", ["cpu", "cuda"])
def test_the_device_of_a_package_is_read_without_loading_it(kind: str) -> None:
    metadata = json.dumps({"AOTI_DEVICE_KEY": kind, "AOTI_COMPUTE_CAPABILITY": "90"})
    assert _compiled_for(archive(constants="[]", wrapper_metadata=metadata)) == kind


@pytest.mark.parametrize(
    "package",
    [
        b"",
        b"not an archive",
        archive(constants="[]"),
        archive(wrapper_metadata="not JSON"),
        archive(wrapper_metadata="[]"),
        archive(wrapper_metadata="{}"),
        archive(wrapper_metadata='{"AOTI_DEVICE_KEY": 1}'),
    ],
)
def test_a_damaged_package_states_no_device_and_is_refused_by_pytorch(package: bytes) -> None:
    assert _compiled_for(package) is None
    with pytest.raises(BundleError, match=r"graph='head': PyTorch .* cannot load it on cpu: ") as error:
        open_with(Pt2Backend(), Graph("head", INTERFACE, package), CPU)
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_real_package_for_the_cpu_is_refused_on_a_gpu_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Double(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(Double(), (torch.zeros(2, 2),), dynamic_shapes=({0: batch},))
    with quiet_inductor():
        torch._inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "head.pt2"))
    graph = Graph("head", INTERFACE, (tmp_path / "head.pt2").read_bytes())
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(open_with(Pt2Backend(), graph, CPU)(values), 2 * values)
    monkeypatch.setattr(torch._inductor, "aoti_load_package", pytest.fail)
    with pytest.raises(DeviceError) as error:
        open_with(Pt2Backend(), graph, Device("cuda", 1))
    assert str(error.value) == (
        "device='cuda:1': head was compiled for cpu; run it with --device cpu, or export it with --device cuda"
    )
