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
    return require_ops(request.param)


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU, with native ops, for tests marked `gpu`."""
    return require_ops("cuda")


def require_ops(kind: str) -> torch.device:
    """Skips the test if a device has no native ops; with VIS4MER_REQUIRE_GPU=1 it fails if that is a GPU."""
    if kind not in library().devices:
        reason = f"no native ops for {kind}: {library().reason}"
        if kind == "cuda" and os.environ.get("VIS4MER_REQUIRE_GPU") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return torch.device(kind)
