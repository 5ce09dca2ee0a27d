"""The trt target: engines of TensorRT, which builds on the GPU that will run them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vis4mer.devices.device import probe_driver
from vis4mer.errors import DeviceError
from vis4mer_export.targets.base import Built, GraphSource, Target
from vis4mer_export.targets.engines import BATCH_SIZE, build_from_onnx
from vis4mer_export.targets.onnx import PACKAGES, OnnxTarget


class TensorRTTarget(Target):
    """TensorRT; an engine runs on GPUs of the type it was built on, with the same version of TensorRT."""

    name = "trt"
    suffix = "engine"
    lowerings = OnnxTarget.lowerings
    options = (BATCH_SIZE,)
    packages = (*PACKAGES, "tensorrt")

    def check(self, settings: Mapping[str, Any]) -> None:
        """Checks that TensorRT is installed and that there is a GPU; see `Target`."""
        from vis4mer.runtime.backends.tensorrt import import_tensorrt

        import_tensorrt("trt")
        if problem := probe_driver().problem:
            rule = f"{problem}; TensorRT builds on the GPU that will run the engine"
            raise DeviceError.of("format", self.name, rule, "export there, or use --format trt-rtx")

    def build(self, source: GraphSource, path: Path, settings: Mapping[str, Any]) -> Built:
        """Builds an engine for the first GPU; see `Target`."""
        return build_from_onnx(self, source, path, "trt", settings["batch_size"])
