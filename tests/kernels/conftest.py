import os

import pytest
import torch

from vis4mer_kernels.library import library

DEVICES = [
    pytest.param("cpu", id="cpu"),
    pytest.param("cuda", id="cuda", marks=pytest.mark.gpu),
]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Every device that has native ops; without a compiler there are none."""
    require_ops(request.param)
    return torch.device(request.param)


def require_ops(kind: str) -> None:
    """Skips the test if the library has no ops for a kind of device; with VIS4MER_REQUIRE_GPU=1, fails for a GPU."""
    if kind in library().devices:
        return
    reason = f"no native ops for {kind}: {library().reason}"
    if kind == "cuda" and os.environ.get("VIS4MER_REQUIRE_GPU") == "1":
        pytest.fail(reason)
    pytest.skip(reason)
