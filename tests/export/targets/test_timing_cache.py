"""The timing cache over a stand-in for TensorRT's builder configuration."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from vis4mer_export.targets.timing_cache import TimingCache


class FakeTimes:
    """Times in milliseconds by kernel, of one GPU."""

    def __init__(self, gpu: str, times: dict[str, float]) -> None:
        self.gpu, self.times = gpu, times

    def serialize(self) -> bytes:
        return json.dumps([self.gpu, self.times]).encode()

    def combine(self, input_cache: "FakeTimes", ignore_mismatch: bool) -> bool:
        if input_cache.gpu != self.gpu and not ignore_mismatch:
            return False
        self.times = input_cache.times | self.times
        return True


class FakeConfig:
    def __init__(self, gpu: str) -> None:
        self.gpu = gpu
        self.used: FakeTimes | None = None

    def create_timing_cache(self, serialized_timing_cache: bytes) -> FakeTimes | None:
        if not serialized_timing_cache:
            return FakeTimes(self.gpu, {})
        try:
            return FakeTimes(*json.loads(serialized_timing_cache))
        except ValueError:
            return None

    def set_timing_cache(self, cache: FakeTimes, ignore_mismatch: bool) -> bool:
        if cache.gpu != self.gpu and not ignore_mismatch:
            return False
        self.used = cache
        return True


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vis4mer"


def build(kernel: str, milliseconds: float, gpu: str = "NVIDIA H100 80GB") -> dict[str, float]:
    """Measures one kernel unless its time is known; returns all times that the build knew at its end."""
    config = FakeConfig(gpu)
    cache = TimingCache(config, "11.4.0", "NVIDIA H100 80GB")
    assert config.used is not None
    config.used.times.setdefault(kernel, milliseconds)
    cache.save()
    return config.used.times


def test_times_are_measured_once(folder: Path) -> None:
    assert build("matmul", 3.0) == {"matmul": 3.0}
    assert build("matmul", 5.0) == {"matmul": 3.0}
    assert build("softmax", 1.0) == {"matmul": 3.0, "softmax": 1.0}
    [file] = folder.iterdir()
    assert file.name == "tensorrt-11.4.0-times-NVIDIA-H100-80GB"


def test_builds_at_the_same_time_keep_each_other_s_times() -> None:
    config = FakeConfig("NVIDIA H100 80GB")
    slow = TimingCache(config, "11.4.0", "NVIDIA H100 80GB")
    assert config.used is not None
    config.used.times["matmul"] = 3.0
    build("softmax", 1.0)
    slow.save()
    assert build("gelu", 0.5) == {"matmul": 3.0, "softmax": 1.0, "gelu": 0.5}


def test_times_of_another_driver_are_replaced() -> None:
    build("matmul", 9.0, gpu="NVIDIA H100 80GB, before the update")
    assert build("matmul", 3.0) == {"matmul": 3.0}
    assert build("matmul", 5.0) == {"matmul": 3.0}


@pytest.mark.parametrize("damaged", [b"", b"\xff\x00", b"["])
def test_a_damaged_file_is_replaced(folder: Path, damaged: bytes) -> None:
    build("matmul", 9.0)
    next(folder.iterdir()).write_bytes(damaged)
    assert build("matmul", 3.0) == {"matmul": 3.0}
    assert build("matmul", 5.0) == {"matmul": 3.0}


def test_a_file_that_is_damaged_during_the_build_is_replaced(folder: Path) -> None:
    config = FakeConfig("NVIDIA H100 80GB")
    cache = TimingCache(config, "11.4.0", "NVIDIA H100 80GB")
    assert config.used is not None
    config.used.times["matmul"] = 3.0
    build("softmax", 1.0)
    next(folder.iterdir()).write_bytes(b"damaged")
    cache.save()
    assert build("gelu", 0.5) == {"matmul": 3.0, "gelu": 0.5}


def test_the_real_api_has_every_call_of_the_stand_in() -> None:
    """TensorRT for RTX keeps the calls for programs written for TensorRT, whose bindings have the same signatures."""
    trt: Any = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    for real, name, arguments in (
        (trt.IBuilderConfig, "create_timing_cache", ["serialized_timing_cache"]),
        (trt.IBuilderConfig, "set_timing_cache", ["cache", "ignore_mismatch"]),
        (trt.ITimingCache, "combine", ["input_cache", "ignore_mismatch"]),
        (trt.ITimingCache, "serialize", []),
    ):
        signature = getattr(real, name).__doc__.splitlines()[0]
        assert re.search(rf"{name}\(self" + "".join(rf".*\b{argument}: " for argument in arguments), signature)
