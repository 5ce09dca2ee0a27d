import pytest
import torch
from torch import nn

from vis4mer.errors import DeviceError
from vis4mer.models.placement import to_device


def test_the_same_module_comes_back_on_the_device() -> None:
    module = nn.Linear(2, 3)
    assert to_device(module, "meta") is module
    assert module.weight.device.type == "meta"


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Found no NVIDIA driver on your system.\nPlease check that you have one."),
        AssertionError("Torch not compiled with CUDA enabled"),
    ],
)
def test_an_unusable_device_is_one_line_with_the_remedy(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: nn.Module, device: str) -> nn.Module:
        raise error

    monkeypatch.setattr(nn.Module, "to", fail)
    with pytest.raises(DeviceError) as caught:
        to_device(nn.Linear(2, 3), "cuda:1")
    reason = str(error).splitlines()[0]
    assert str(caught.value) == f"device='cuda:1': PyTorch cannot use it ({reason}); use --device cpu"


def test_an_absent_gpu_is_refused() -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(DeviceError, match=f"device='{absent}': PyTorch cannot use it"):
        to_device(nn.Linear(2, 3), absent)
