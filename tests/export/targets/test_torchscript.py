import io
from types import SimpleNamespace
from typing import Any

import torch

from vis4mer_export.targets.torchscript import _trace


def test_convolutions_of_a_trace_are_in_float32_on_every_gpu() -> None:
    source: Any = SimpleNamespace(
        module=torch.nn.Conv2d(3, 4, kernel_size=2, stride=2).eval(), example=torch.rand(1, 3, 8, 8)
    )
    program = torch.jit.load(io.BytesIO(_trace(source).getvalue()))
    (convolution,) = program.graph.findAllNodes("aten::_convolution")
    *_, cudnn_enabled, allow_tf32 = (value.toIValue() for value in convolution.inputs())
    assert (cudnn_enabled, allow_tf32) == (True, False)
    assert torch.backends.cudnn.conv.fp32_precision == "tf32", "the process keeps its setting"
