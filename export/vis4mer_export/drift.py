"""Finds where a frozen or half-precision model departs from its eager one, once their outputs differ."""

import re
from collections.abc import Callable

import torch
from torch import Tensor, nn

# The modules that readers recognise as stages: transformer and S4 blocks, and the layers before and after them.
_STAGE = re.compile(r"(vit\.)?(patch_embed|norm|input|output|blocks\.\d+)")


def first_drift(eager: nn.Module, exported: nn.Module, inputs: Tensor, tolerance: float) -> str:
    """Names the first stage whose output differs by more than `tolerance`, and by how much.

    Args:
        eager: The trained model.
        exported: The module that was written, whose stages have the same names.
        inputs: Inputs on which the written graph failed.
        tolerance: Largest acceptable relative L2 error.
    """
    expected, actual = _stage_outputs(eager, inputs), _stage_outputs(exported, inputs)
    before = 0.0
    # Hooks run in the order of execution, so the first stage that differs is where the error arises. Freezing replaces
    # some modules; stages that exist on one side only are skipped.
    for name in (name for name in expected if name in actual):
        reference = expected[name].double()
        error = float((actual[name].double() - reference).norm() / reference.norm().clamp_min(1e-30))
        if not error <= tolerance:  # written so that NaN counts as drift
            return f"stage {name} drifted to {error:.1e}, from {before:.1e} before it"
        before = error
    return "every stage is within tolerance in PyTorch, so the difference is the backend's"


def _stage_outputs(module: nn.Module, inputs: Tensor) -> dict[str, Tensor]:
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: outputs.update({name: output})

    handles = [
        child.register_forward_hook(keep(name)) for name, child in module.named_modules() if _STAGE.fullmatch(name)
    ]
    try:
        with torch.inference_mode():
            module(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs
