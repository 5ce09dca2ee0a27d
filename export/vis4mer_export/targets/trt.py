"""The trt target: engines of TensorRT, which builds on a GPU of the type that will run them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis4mer.devices.device import probe_driver
from vis4mer.errors import ConfigError, DeviceError
from vis4mer_export.targets.base import Built, GraphSource, Target
from vis4mer_export.targets.device import DEVICE, require_gpu
from vis4mer_export.targets.engine_options import (
    BATCH_SIZE,
    HARDWARE_COMPATIBILITY,
    HARDWARE_LEVELS,
    HEAD_BATCH_SIZE,
    OPTIMIZATION_LEVEL,
    TENSORRT_VERSIONS,
    EngineSettings,
)
from vis4mer_export.targets.engines import FP16_REASON, build_from_onnx
from vis4mer_export.targets.onnx import PACKAGES, OnnxTarget


class TensorRTTarget(Target):
    """TensorRT; by default, an engine runs on GPUs of the type and with the version that it was built with."""

    name = "trt"
    suffix = "engine"
    lowerings = OnnxTarget.lowerings
    default_precision = "fp16"
    precision_reason = FP16_REASON
    options = (BATCH_SIZE, HEAD_BATCH_SIZE, DEVICE, OPTIMIZATION_LEVEL, HARDWARE_COMPATIBILITY, TENSORRT_VERSIONS)
    packages = (*PACKAGES, "tensorrt")

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that TensorRT is installed and that there is the GPU; see `Target`."""
        from vis4mer.runtime.backends.tensorrt import import_tensorrt

        device, driver = require_gpu(settings["device"], self.name), probe_driver()
        trt = import_tensorrt("trt")
        level = settings["hardware_compatibility"]
        if HARDWARE_LEVELS[level] not in trt.HardwareCompatibilityLevel.__members__:
            rule = f"TensorRT {trt.__version__} has no such level"
            raise ConfigError.of("hardware_compatibility", level, rule, "install a newer version")
        if driver.problem:
            rule = f"{driver.problem}; TensorRT builds on a GPU of the type that will run the engine"
            raise DeviceError.of("format", self.name, rule, "export there, or use --format trt-rtx")
        if device.index >= len(driver.gpus):
            rule = f"this machine's GPUs are cuda:0 to cuda:{len(driver.gpus) - 1}"
            raise DeviceError.of("device", str(device), rule)

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Builds an engine on the chosen GPU, which compares it with the model; see `Target`."""
        return build_from_onnx(self, source, path, _engine_settings(settings))


def _engine_settings(settings: Mapping[str, Any]) -> EngineSettings:
    return EngineSettings(
        product="trt",
        encoder=settings["batch_size"],
        heads=settings["head_batch_size"],
        device=require_gpu(settings["device"], "trt"),
        optimization_level=settings["optimization_level"],
        hardware_compatibility=settings["hardware_compatibility"],
        tensorrt_versions=settings["tensorrt_versions"],
    )
