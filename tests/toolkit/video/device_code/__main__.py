"""Writes the PTX that is part of the package: ``python -m tests.toolkit.video.device_code``."""

import shutil

from . import PTX, compile_ptx

nvcc = shutil.which("nvcc")
if nvcc is None:
    raise SystemExit("nvcc is not installed")
PTX.write_text(compile_ptx(nvcc))
