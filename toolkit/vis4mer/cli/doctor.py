"""`vis4mer doctor`: what this machine can do and what is missing."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

import vis4mer
from vis4mer.cli.options import json_option
from vis4mer.cli.rows import print_row
from vis4mer.errors import Vis4merError
from vis4mer.packages import install_command

if TYPE_CHECKING:
    from vis4mer.devices.device import Device


# Width of the column of names: that of the longest.
_NAME_WIDTH = 22


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Report what this machine can do and what is missing."""
    if as_json:
        click.echo(json.dumps(dict(_findings()) | {"packages": _packages()}, indent=2))
        return
    # Some findings take seconds, so each is printed as soon as it is made.
    for name, value in _findings():
        # Several problems are sentences with commas of their own, so each has a row.
        for row in value if name == "cuda_problems" and value else [value]:
            print_row(name.replace("_", " "), _in_words(row), _NAME_WIDTH)
    for package in _packages():
        print_row(str(package["name"]), _package_in_words(package), _NAME_WIDTH)


def _findings() -> Iterator[tuple[str, Any]]:
    """Yields the name and the value of each finding, the quick ones first."""
    yield "vis4mer", vis4mer.__version__
    yield "python", platform.python_version()
    yield "system", f"{platform.system()} {platform.release()} {platform.machine()}"
    yield "cores", len(os.sched_getaffinity(0))

    from vis4mer.devices.compatibility import driver_release, find_cudnn, gpu_packages, problems
    from vis4mer.devices.device import CPU, probe_driver

    driver, release = probe_driver(), driver_release()
    yield "cuda_driver", driver.cuda_version
    yield "driver_release", release
    yield "gpus", list(driver.gpus)
    yield "gpu_problem", driver.problem
    packages, cudnn = gpu_packages(), find_cudnn()
    yield "gpu_packages", [package._asdict() for package in packages]
    yield "cudnn", cudnn and cudnn._asdict()
    yield "cuda_problems", list(problems(driver, packages, cudnn, release))
    yield "onnxruntime_providers", _onnxruntime_providers()
    device, device_reason = _default_device()
    yield "device_auto", None if device is None else str(device)
    yield "device_reason", device_reason
    precision, precision_reason = _default_precision(device or CPU)
    yield "precision_auto", precision
    yield "precision_reason", precision_reason
    video_decoder, video_decoder_reason = _default_video_decoder(device or CPU)
    yield "video_decoder_auto", video_decoder
    yield "video_decoder_reason", video_decoder_reason
    # This comes last, because PyTorch takes seconds to import.
    yield "native_ops", _native_ops()


def _default_device() -> tuple["Device | None", str]:
    """Returns the device of ``--device auto``, by loading the sample bundle, and the reason."""
    from vis4mer.runtime.loading import load

    try:
        classifier = load()
    except Vis4merError as error:
        return None, str(error)
    return classifier.device, classifier.device_reason


def _default_precision(device: "Device") -> tuple[str, str]:
    """Returns the precision of ``--precision auto`` for a checkpoint; a bundle has its own."""
    from vis4mer.devices.device import bf16_units

    units = bf16_units(device)
    if units is None:
        return "fp32", f"{device} is not faster in bf16"
    return "bf16", f"faster with {units}; a checkpoint whose tokens it changes too much runs in fp32"


def _default_video_decoder(device: "Device") -> tuple[str, str]:
    """Returns the video decoder of ``--video-decoder auto`` on a device."""
    from vis4mer.video import dali

    if device.kind == "cpu":
        return "pyav", "the device is cpu"
    if not dali.installed():
        return "pyav", "DALI is not installed (vis4mer[dali])"
    return "dali", "videos that DALI cannot read exactly are read with PyAV; their predictions state the reason"


def _native_ops() -> str:
    """Describes the native ops that training uses: their devices and library, or why there are none."""
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


def _packages() -> list[dict[str, str | None]]:
    """Lists every package that the base install (extra None) and the extras bring, and its version if installed."""
    from vis4mer.packages import requirements

    return [
        {"name": name, "version": _version(name), "extra": extra or None}
        for extra, names in requirements().items()
        for name in names
    ]


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _in_words(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_in_words, value)) or "none"
    if isinstance(value, dict):  # a package or library and the CUDA version that it is built for
        words = [value.get("name"), value["version"], "for CUDA", value["cuda"] or "none", value.get("path")]
        return " ".join(word for word in words if word)
    return "none" if value in (None, "") else str(value)


def _package_in_words(package: dict[str, str | None]) -> str:
    if package["version"] is not None:
        return package["version"]
    return f"absent: {install_command(package['extra'])}" if package["extra"] else "absent"
