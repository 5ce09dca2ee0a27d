import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import Device, Driver, on_device
from vis4mer.errors import BundleError, DeviceError
from vis4mer.runtime.backends.base import Graph
from vis4mer.runtime.backends.onnx import OnnxBackend, OnnxRunner, import_onnxruntime
from vis4mer.runtime.backends.registry import open_with
from vis4mer.runtime.interface import GraphInterface, TensorSpec

CPU = Device("cpu")


INTERFACE = GraphInterface((TensorSpec("x", "float32", ("batch", 2)),), (TensorSpec("y0", "float32", ("batch", 2)),))


def head(data: bytes) -> Graph:
    return Graph("head", INTERFACE, data)


def graph_with(initializers: list[onnx.TensorProto], outputs: int = 1) -> bytes:
    """Returns the ONNX graph y = x + w, with the given number of equal outputs."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 2])
    ys = [helper.make_tensor_value_info(f"y{i}", TensorProto.FLOAT, ["B", 2]) for i in range(outputs)]
    nodes = [helper.make_node("Add", ["x", "w"], [y.name]) for y in ys]
    graph = helper.make_graph(nodes, "graph", [x], ys, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


WEIGHTS = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])


def test_a_graph_runs_at_any_batch_size_and_from_views() -> None:
    runner = OnnxRunner(head(graph_with([WEIGHTS])), CPU)
    for batch in (np.zeros((1, 2), np.float32), np.ones((7, 2), np.float32), np.ones((2, 8), np.float32).T[::2]):
        np.testing.assert_array_equal(runner(batch), batch + np.array([1, 2], np.float32))


@pytest.mark.parametrize(("where", "copies"), [("host", ["HtoD"]), ("device", [])])
def test_device_memory_is_read_and_written_in_place(driver: Any, where: str, copies: list[str]) -> None:
    """Exercises the GPU path with ONNX Runtime's CPU provider and a fake driver's memory."""
    runner = OnnxRunner(head(graph_with([WEIGHTS])), CPU)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    batch: Any = values
    if where == "device":
        batch = DeviceArray.empty((3, 2), np.dtype(np.float32), Device("cuda"))
        ctypes.memmove(batch.address, values.ctypes.data, batch.nbytes)
    result = runner._run_on_device(batch)
    assert driver.copies == copies
    del runner, batch
    gc.collect()
    assert (result.shape, result.dtype, result.device) == ((3, 2), np.float32, CPU)
    np.testing.assert_array_equal(result.numpy(), values + np.array([1, 2], np.float32))


@pytest.mark.parametrize("form", ["beside", "above", "absolute"])
def test_a_graph_cannot_read_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.array([5, 6], np.float32).tobytes())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path if form == "beside" else tmp_path / "here")
    location = {"beside": "secret.bin", "above": "../secret.bin", "absolute": str(secret)}[form]
    weights = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[2], data_location=TensorProto.EXTERNAL)
    weights.external_data.add(key="location", value=location)
    with pytest.raises(BundleError, match="graph='head': ONNX Runtime cannot load it"):
        OnnxRunner(head(graph_with([weights])), CPU)


@pytest.mark.parametrize("graph", [b"", b"not a graph", graph_with([WEIGHTS])[:40]])
def test_an_invalid_graph_is_a_one_line_error(graph: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(BundleError, match="graph='head'") as error:
        OnnxRunner(head(graph), CPU)
    assert "\n" not in str(error.value)
    assert capfd.readouterr() == ("", ""), "the exception says it; the log would say it twice"


def test_a_graph_of_another_form_is_an_error() -> None:
    with pytest.raises(
        BundleError, match=r"graph='head': the file holds \(x float32\[B, 2\]\) -> \(y0 .*, y1 .*\), but"
    ):
        OnnxRunner(head(graph_with([WEIGHTS], outputs=2)), CPU)


def test_a_batch_that_the_graph_does_not_take_is_a_one_line_error() -> None:
    runner = OnnxRunner(head(graph_with([WEIGHTS])), CPU)
    with pytest.raises(DeviceError, match=r"head failed on a batch of shape \(1, 3\)") as error:
        runner(np.zeros((1, 3), np.float32))
    assert "\n" not in str(error.value)
    checked = open_with(OnnxBackend(), head(graph_with([WEIGHTS])), CPU)
    with pytest.raises(BundleError, match=r"^graph='head': takes x float32\[batch, 2\], not float32\[1, 3\]$"):
        checked(np.zeros((1, 3), np.float32))


@pytest.mark.parametrize(
    "stated",
    [
        TensorSpec("z", "float32", ("batch", 2)),
        TensorSpec("x", "float16", ("batch", 2)),
        TensorSpec("x", "float32", ("batch", 3)),
        TensorSpec("x", "float32", ("batch", "length")),
        TensorSpec("x", "float32", ("batch",)),
        TensorSpec("x", "float32", (1, 2)),
    ],
)
def test_names_types_and_axes_must_be_those_of_the_manifest(stated: TensorSpec) -> None:
    graph = Graph("head", GraphInterface((stated,), INTERFACE.outputs), graph_with([WEIGHTS]))
    with pytest.raises(
        BundleError, match=r"^graph='head': the file holds \(x float32\[B, 2\]\).* but the manifest states"
    ):
        OnnxRunner(graph, CPU)


def test_importing_onnxruntime_leaves_stderr_as_it_was(capfd: pytest.CaptureFixture[str]) -> None:
    import_onnxruntime()
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_onnxruntime_is_loaded_without_telemetry(tmp_path: Path) -> None:
    # With telemetry, loading the library writes an identifier of the session to the temporary folder.
    removed = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS")  # it is off in continuous integration
    environment = {name: value for name, value in os.environ.items() if name not in removed} | {"TMPDIR": str(tmp_path)}
    code = "from vis4mer.runtime.backends.onnx import import_onnxruntime; import_onnxruntime()"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert not list(tmp_path.iterdir())


def test_a_gpu_that_cannot_be_used_is_an_error_or_a_reason(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: Driver("13.0", ("A GPU",), ""))
    runtime = import_onnxruntime()
    monkeypatch.setattr(runtime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    def build(device: Device) -> Any:
        return OnnxRunner(head(graph_with([WEIGHTS])), device)

    with pytest.raises(DeviceError, match="built without CUDA; pip install onnxruntime-gpu"):
        on_device("cuda:0", build)
    with pytest.raises(DeviceError, match="GPUs are cuda:0 to cuda:0; use --device cpu or auto"):
        on_device("cuda:1", build)
    runner, device, reason = on_device("auto", build)
    assert (str(device), runner(np.zeros((1, 2), np.float32)).tolist()) == ("cpu", [[1.0, 2.0]])
    assert "built without CUDA" in reason
    assert "built without CUDA" in caplog.text
