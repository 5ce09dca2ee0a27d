"""VIS4MER_REQUIRE_GPU=1 makes tests of the CUDA ops fail where these are absent: a skip would look like a success."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

TESTS = Path(__file__).parent


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
@pytest.mark.parametrize(("required", "outcome"), [("0", "1 skipped"), ("1", "1 error")])
def test_absent_cuda_ops_are_a_failure_where_a_gpu_is_required(required: str, outcome: str) -> None:
    test = f"{TESTS / 'test_long_conv.py'}::test_empty_inputs[cuda-shape0]"
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test],
        cwd=TESTS.parents[1],
        env=os.environ | {"VIS4MER_REQUIRE_GPU": required},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome in done.stdout, done.stdout + done.stderr
