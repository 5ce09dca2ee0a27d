import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from vis4mer.cli.console import name_options, say, show_log_messages


@pytest.fixture(autouse=True)
def options_of_a_command() -> None:
    name_options(["--batch-size", "--video-decoder", "--stride"])


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("batch_size=0: must be at least 1 frame", "--batch-size=0: must be at least 1 frame"),
        (
            "video='a': cannot be read; use video_decoder='pyav'",
            "video='a': cannot be read; use --video-decoder='pyav'",
        ),
        ("video='stride=3.mp4': no such file", "video='stride=3.mp4': no such file"),
        ("video='use stride.mp4': no such file", "video='use stride.mp4': no such file"),
        ("window_size=3: is no argument of this command", "window_size=3: is no argument of this command"),
    ],
)
def test_messages_name_options_as_they_are_typed(capsys: pytest.CaptureFixture[str], message: str, shown: str) -> None:
    say("error", message)
    assert capsys.readouterr().err == f"vis4mer: error: {shown}\n"


def test_warnings_of_other_packages_are_not_shown(tmp_path: Path) -> None:
    """A CUDA toolkit without a GPU makes PyTorch log a warning; any package may issue Python's."""
    program = """
import warnings
from vis4mer.cli.console import show_log_messages
show_log_messages(quiet=False)
import torch.utils.cpp_extension
warnings.warn("a deprecated function of another package")
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"CUDA_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""


def test_filters_for_warnings_that_are_set_come_first() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        show_log_messages(quiet=False)
        with pytest.raises(DeprecationWarning):
            warnings.warn("of this project", DeprecationWarning, stacklevel=1)
