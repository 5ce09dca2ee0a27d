"""The trt-rtx target: engines of TensorRT for RTX, which builds ahead of time, on any machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vis4mer.devices.device import compute_capability, probe_driver
from vis4mer.errors import ConfigError
from vis4mer_export.targets.base import Built, GraphSource, Obstacle, Target, TargetOption
from vis4mer_export.targets.device import DEVICE, require_gpu
from vis4mer_export.targets.engine_options import BATCH_SIZE, HEAD_BATCH_SIZE, EngineSettings
from vis4mer_export.targets.engines import FP16_REASON, build_from_onnx
from vis4mer_export.targets.onnx import PACKAGES, OnnxTarget

if TYPE_CHECKING:
    from vis4mer.runtime.manifest import Precision


def _parse_gpus(text: str) -> tuple[str, ...]:
    """Splits ``sm86,sm89``; the installed version defines which of them exist."""
    return tuple(gpu.strip() for gpu in text.split(",")) if text else ()


GPU = TargetOption(
    "gpu",
    "smXX,...",
    "",
    "Compute capabilities of the GPUs to build for; by default all that TensorRT for RTX supports.",
    _parse_gpus,
)


class TensorRTForRTXTarget(Target):
    """TensorRT for RTX; an engine runs on the GPUs that it was built for, with the same version of the product."""

    name = "trt-rtx"
    suffix = "engine"
    lowerings = OnnxTarget.lowerings
    default_precision = "fp16"
    precision_reason = FP16_REASON
    options = (BATCH_SIZE, HEAD_BATCH_SIZE, GPU, DEVICE)
    packages = (*PACKAGES, "tensorrt-rtx")

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that the product is installed and builds for the requested GPUs; see `Target`."""
        from vis4mer.runtime.backends.tensorrt import import_tensorrt

        require_gpu(settings["device"], self.name)
        trt = import_tensorrt("trt-rtx")
        known = [name.lower() for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
        for gpu in settings["gpu"]:
            if gpu not in known:
                rule = f"TensorRT for RTX {trt.__version__} builds for {', '.join(known)}"
                raise ConfigError.of("gpu", gpu, rule)

    def obstacle(self, precision: "Precision", settings: Mapping[str, Any]) -> Obstacle | None:
        """Returns why this machine has no GPU for the engine; see `Target`."""
        remedy = "export on a machine with a GPU that the engine is for, or with --format onnx"
        device, driver = require_gpu(settings["device"], self.name), probe_driver()
        if driver.problem:
            return Obstacle(driver.problem, remedy)
        if device.index >= len(driver.gpus):
            return Obstacle(f"there is no {device} here", remedy)
        major, minor = compute_capability(device)
        if settings["gpu"] and (present := f"sm{major}{minor}") not in settings["gpu"]:
            return Obstacle(f"{device} is {present}, and the engine is for {', '.join(settings['gpu'])}", remedy)
        return None

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Builds an engine; see `Target`."""
        engine = EngineSettings(
            product="trt-rtx",
            encoder=settings["batch_size"],
            heads=settings["head_batch_size"],
            device=require_gpu(settings["device"], self.name),
            gpus=settings["gpu"],
        )
        return build_from_onnx(self, source, path, engine, self.obstacle(source.precision, settings))
