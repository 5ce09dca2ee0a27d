from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.config import Preprocessing
from vis4mer.devices import device
from vis4mer.devices.device import CPU, Device
from vis4mer.errors import ConfigError
from vis4mer.runtime import precision
from vis4mer.runtime.bundle import BundleWriter
from vis4mer.runtime.precision import encoder_precision

SIZE = Preprocessing(height=6, width=9)


def encode(frames: Any) -> Any:
    return frames.reshape(len(frames), -1, 3).astype(np.float32) + 1


def off_by(relative: float, frame: int) -> Any:
    """Returns an encoder whose tokens for one of two frames have the given relative error."""

    def run(frames: Any) -> Any:
        tokens = encode(frames)
        tokens[frame] *= 1 + relative
        return tokens

    return run


@pytest.fixture
def fast_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_units", lambda device: "amx_bf16")


@pytest.mark.usefixtures("fast_bf16")
@pytest.mark.parametrize("frame", [0, 1])
@pytest.mark.parametrize(
    ("relative", "expected", "reason"),
    [
        (1e-3, "bf16", "amx_bf16 is faster in it, and the encoder's tokens are off by only 1.0e-03"),
        (3e-2, "fp32", "in bf16 the encoder's tokens are off by 3.0e-02, more than 2e-02"),
        (np.nan, "fp32", "in bf16 the encoder's tokens are off by nan, more than 2e-02"),
    ],
)
def test_auto_decides_by_the_worst_frame(frame: int, relative: float, expected: str, reason: str) -> None:
    chosen = encoder_precision(encode, off_by(relative, frame), "auto", CPU, SIZE)
    assert chosen == (expected, reason)


def test_auto_is_fp32_where_bf16_is_not_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "bf16_units", lambda device: None)
    assert encoder_precision(pytest.fail, pytest.fail, "auto", CPU, SIZE) == ("fp32", "cpu is not faster in bf16")


@pytest.mark.parametrize("requested", ["fp32", "bf16"])
def test_a_requested_precision_is_used(requested: Any) -> None:
    assert encoder_precision(pytest.fail, pytest.fail, requested, CPU, SIZE) == (requested, "requested")


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("processor : 0\nflags\t\t: fpu avx512_bf16 amx_bf16 amx_tile\n\nprocessor : 1\n", "amx_bf16"),
        ("flags : fpu avx512_bf16 amd\n", "avx512_bf16"),
        ("Features\t: fp asimd bf16 i8mm\n", "bf16"),
        ("flags : fpu avx512f not_bf16\n", None),
        ("", None),
    ],
)
def test_a_cpu_has_the_units_among_its_flags(monkeypatch: pytest.MonkeyPatch, text: str, units: str | None) -> None:
    monkeypatch.setattr(Path, "read_text", lambda path: text)
    device._cpu_flags.cache_clear()
    assert device.bf16_units(CPU) == units
    monkeypatch.undo()
    device._cpu_flags.cache_clear()


@pytest.mark.parametrize(
    ("capability", "units"), [((7, 5), None), ((8, 0), "compute capability 8.0"), ((12, 1), "12.1")]
)
def test_a_gpu_has_the_units_of_its_capability(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], units: str | None
) -> None:
    monkeypatch.setattr(device, "compute_capability", lambda device: capability)
    found = device.bf16_units(Device("cuda"))
    assert found is None if units is None else units in str(found)


@pytest.fixture
def half_bundle(tiny_model: Any, tiny_config: Any, tmp_path: Path) -> Path:
    with BundleWriter(tmp_path / "half") as writer:
        writer.path("encoder.onnx").write_bytes(tiny_model.onnx_encoder())
        for name in tiny_config.heads:
            writer.path(f"{name}.onnx").write_bytes(tiny_model.onnx_head(name))
        writer.commit(format="onnx", precision="fp16", model=tiny_config)
    return tmp_path / "half"


def test_a_bundle_keeps_the_precision_of_its_export(tiny_bundle: Path, half_bundle: Path, movie: Path) -> None:
    values = vis4mer.load(half_bundle, device="cpu")(movie).to_dict()
    assert (values["precision"], values["precision_reason"]) == ("fp16", "the bundle was exported in it")
    assert vis4mer.load(tiny_bundle, device="cpu", precision="fp32").precision == ("fp32", "requested")
    for bundle, has, requested in ((tiny_bundle, "fp32", "bf16"), (half_bundle, "fp16", "fp32")):
        with pytest.raises(ConfigError) as error:
            vis4mer.load(bundle, device="cpu", precision=requested)  # type: ignore[arg-type]
        assert str(error.value) == (
            f"precision={requested!r}: the bundle {str(bundle)!r} computes in {has}; "
            f"use auto, or export it with --precision {requested}"
        )


def test_an_unknown_precision_is_an_error(tiny_bundle: Path) -> None:
    with pytest.raises(ConfigError, match="precision='int8': must be one of auto, fp32, bf16"):
        vis4mer.load(tiny_bundle, precision="int8")  # type: ignore[arg-type]
