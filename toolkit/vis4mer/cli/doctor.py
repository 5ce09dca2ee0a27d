"""`vis4mer doctor`: what this machine can do, and why not more."""

import importlib.metadata
import json
import os
import platform
from typing import Any

import click

import vis4mer
from vis4mer.errors import Vis4merError
from vis4mer.text import printable

# Distributions by the extra that brings them; the first group is the base install.
_ONNXRUNTIME = "onnxruntime-gpu" if platform.machine() == "x86_64" else "onnxruntime"
_PACKAGES = {
    "": ("numpy", "av", "pillow", "rich", "click", _ONNXRUNTIME),
    "torch": ("torch", "torchvision", "timm", "einops", "safetensors", "huggingface_hub"),
    "export": ("onnx", "onnxscript"),
    "train": ("tensorboard", "matplotlib"),
    "dali": ("nvidia-dali-cuda120",),
    "trt": ("tensorrt",),
    "rtx": ("tensorrt-rtx",),
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print everything as a JSON object.")
def doctor(as_json: bool) -> None:
    """Say what this machine can do and why not more."""
    findings = _examine()
    if as_json:
        click.echo(json.dumps(findings, indent=2))
        return
    packages = findings.pop("packages")
    for name, value in findings.items():
        click.echo(f"{name.replace('_', ' '):<22}  {printable(_in_words(value))}")
    for package in packages:
        click.echo(f"{package['name']:<22}  {_package_in_words(package)}")


def _examine() -> dict[str, Any]:
    from vis4mer.devices.device import probe_driver

    driver = probe_driver()
    device, device_reason = _default_device()
    precision, precision_reason = _default_precision(device)
    video_decoder, video_decoder_reason = _default_video_decoder(device)
    return {
        "vis4mer": vis4mer.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)),
        "cuda_driver": driver.cuda_version,
        "gpus": list(driver.gpus),
        "gpu_problem": driver.problem,
        "onnxruntime_providers": _onnxruntime_providers(),
        "device_auto": device,
        "device_reason": device_reason,
        "precision_auto": precision,
        "precision_reason": precision_reason,
        "native_ops": _native_ops(),
        "video_decoder_auto": video_decoder,
        "video_decoder_reason": video_decoder_reason,
        "packages": [
            {"name": name, "version": _version(name), "extra": extra or None}
            for extra, names in _PACKAGES.items()
            for name in names
        ],
    }


def _default_device() -> tuple[str | None, str]:
    """What ``--device auto`` is for the sample bundle, found out by loading it."""
    from vis4mer.runtime.loading import load

    try:
        classifier = load()
    except Vis4merError as error:
        return None, str(error)
    return str(classifier.device), classifier.device_reason


def _default_precision(device: str | None) -> tuple[str, str]:
    """What ``--precision auto`` is for a checkpoint; a bundle has its own."""
    from vis4mer.devices.device import CPU, bf16_units, parse_device

    units = bf16_units(parse_device(device or "cpu") or CPU)
    if units is None:
        return "fp32", f"{device or CPU} is not faster in bf16"
    return "bf16", f"{units} is faster in it; fp32 for a checkpoint whose tokens it changes too much"


def _default_video_decoder(device: str | None) -> tuple[str, str]:
    from vis4mer.video import dali

    if device is None or device == "cpu":
        return "pyav", "the device is cpu"
    if not dali.installed():
        return "pyav", "DALI is not installed (vis4mer[dali])"
    return "dali", "PyAV where DALI does not read a video exactly; its prediction says why"


def _native_ops() -> str:
    """On which devices training has native ops, and the library that holds them, or why there are none."""
    try:
        from vis4mer_kernels.library import library

        found = library()
    except ImportError:
        return "none: PyTorch is not installed (vis4mer[torch])"
    except Vis4merError as error:
        return f"none: {error}"
    return f"{', '.join(found.devices) or 'none'}: {found.reason}"


def _onnxruntime_providers() -> list[str]:
    from vis4mer.runtime.backends.onnx import import_onnxruntime

    try:
        return list(import_onnxruntime().get_available_providers())
    except Vis4merError:
        return []


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_words(value: Any) -> str:
    return ", ".join(value) or "none" if isinstance(value, list) else str(value if value not in (None, "") else "none")


def _package_in_words(package: dict[str, Any]) -> str:
    if package["version"] is not None:
        return str(package["version"])
    return f"absent: pip install 'vis4mer[{package['extra']}]'" if package["extra"] else "absent"
