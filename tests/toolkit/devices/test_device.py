import weakref
from typing import Any

import pytest

from vis4mer.devices import device
from vis4mer.devices.device import CPU, Device, Driver, on_device, parse_device
from vis4mer.errors import ConfigError, DeviceError


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "probe_driver", lambda: Driver("13.0", ("one", "other"), ""))


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("auto", "auto"),
        ("cpu", CPU),
        ("cuda", "cuda"),
        ("cuda:0", Device("cuda")),
        ("cuda:12", Device("cuda", 12)),
        (Device("cuda", 3), Device("cuda", 3)),
    ],
)
def test_a_request_is_a_device_any_gpu_or_auto(name: Any, parsed: Any) -> None:
    assert parse_device(name) == parsed


@pytest.mark.parametrize("requested", ["cuda:1", Device("cuda", 1)])
@pytest.mark.usefixtures("two_gpus")
def test_a_device_is_taken_by_name_or_as_itself(requested: Any) -> None:
    value, used, reason = on_device(requested, str)
    assert (value, used, reason) == ("cuda:1", Device("cuda", 1), "requested")


@pytest.mark.usefixtures("two_gpus")
def test_any_gpu_is_the_first() -> None:
    assert on_device("cuda", str) == ("cuda:0", Device("cuda"), "requested")


@pytest.mark.usefixtures("two_gpus")
def test_auto_falls_back_to_the_cpu_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    def build(candidate: Device) -> str:
        if candidate.kind == "cuda":
            raise DeviceError("out of memory")
        return str(candidate)

    assert on_device("auto", str) == ("cuda:0", Device("cuda"), "the first GPU")
    assert on_device("auto", build) == ("cpu", CPU, "out of memory")
    assert caplog.messages == ["running on the CPU: out of memory"]


@pytest.mark.usefixtures("two_gpus")
def test_a_failed_attempt_on_a_gpu_is_freed_before_the_cpu_is_tried() -> None:
    class Weights:
        pass

    left: list[weakref.ref[Weights]] = []

    def build(candidate: Device) -> str:
        if candidate.kind == "cuda":
            weights = Weights()
            left.append(weakref.ref(weights))
            raise DeviceError("out of memory")
        assert left[0]() is None, "the GPU's memory is still in use"
        return "cpu"

    assert on_device("auto", build).value == "cpu"


@pytest.mark.parametrize(("gpus", "first"), [((), "the driver offers no GPU"), (("one",), "no engine for this GPU")])
def test_what_runs_nowhere_is_one_error_with_both_reasons(
    gpus: tuple[str, ...], first: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(device, "probe_driver", lambda: Driver("13.0", gpus, "" if gpus else first))

    def build(candidate: Device) -> str:
        raise DeviceError(first if candidate.kind == "cuda" else "not on a CPU")

    with pytest.raises(DeviceError) as error:
        on_device("auto", build)
    assert str(error.value) == f"device='auto': neither the GPU nor the CPU can be used: {first}; not on a CPU"
    assert caplog.messages == []


@pytest.mark.usefixtures("two_gpus")
def test_a_device_beyond_the_last_is_an_error() -> None:
    expected = "device='cuda:2': this machine's GPUs are cuda:0 to cuda:1; use --device cpu or auto"
    with pytest.raises(DeviceError) as error:
        on_device(Device("cuda", 2), str)
    assert str(error.value) == expected


def test_a_name_that_is_not_a_device_is_an_error() -> None:
    with pytest.raises(ConfigError, match="device='tpu': must be auto, cpu, cuda or cuda:N"):
        on_device("tpu", pytest.fail)


def test_a_machine_without_a_driver_is_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise OSError(name)

    monkeypatch.setattr(device.ctypes, "CDLL", absent)
    device.probe_driver.cache_clear()
    try:
        assert device.probe_driver() == Driver(None, (), "there is no NVIDIA driver (libcuda.so.1)")
    finally:
        monkeypatch.undo()
        device.probe_driver.cache_clear()
