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
    kind: str = request.param
    if kind not in library().devices:
        pytest.skip(f"no native ops for {kind}: {library().reason}")
    return torch.device(kind)
