from typing import Any

import pytest
import torch
from torch import nn

from vis4mer.errors import DeviceError
from vis4mer.models.placement import require_device, to_device


def test_the_same_module_comes_back_on_the_device() -> None:
    module = nn.Linear(2, 3)
    assert to_device(module, "meta") is module
    assert module.weight.device.type == "meta"


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (RuntimeError("Found no NVIDIA driver on your system.\nPlease check that you have one."), "use --device cpu"),
        (
            AssertionError("Torch not compiled with CUDA enabled"),
            "install its build for CUDA, or use --device cpu or auto",
        ),
        (
            RuntimeError("The NVIDIA driver on your system is too old (found version 12020). Please update"),
            "install a newer NVIDIA driver: 'vis4mer doctor' states which",
        ),
    ],
)
def test_an_unusable_device_is_one_line_with_the_remedy(
    error: Exception, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(nn.Module, "to", fail)
    monkeypatch.setattr(torch, "zeros", fail)
    reason = str(error).splitlines()[0]
    for check in (lambda: to_device(nn.ReLU(), "cuda:1"), lambda: require_device("cuda:1")):
        with pytest.raises(DeviceError) as caught:
            check()
        assert str(caught.value) == f"device='cuda:1': PyTorch cannot use it ({reason}); {remedy}"


def test_an_absent_gpu_is_refused() -> None:
    require_device("cpu")
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(DeviceError, match=f"device='{absent}': PyTorch cannot use it"):
        require_device(absent)
    with pytest.raises(DeviceError, match=f"device='{absent}': PyTorch cannot use it"):
        to_device(nn.Linear(2, 3), absent)
