"""The published implementation's recorded numbers: kernels, logits and gradients of two of its checkpoints."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vis4mer.models import original
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.decoder import S4Decoder

RESOURCES = Path(__file__).parents[2] / "resources" / "original"
NAMES = ["lvu-small", "regression-two-layers"]


def relative_error(actual: torch.Tensor, expected: torch.Tensor) -> float:
    actual, expected = actual.detach().double(), expected.detach().double()
    return float((actual - expected).norm() / expected.norm())


@pytest.fixture(params=NAMES)
def case(request: pytest.FixtureRequest) -> tuple[S4Decoder, dict[str, torch.Tensor], dict[str, object]]:
    folder = RESOURCES / request.param
    decoder = load_checkpoint(folder / "checkpoint.pt").heads["decoder"]
    return decoder, load_file(folder / "expected.safetensors"), json.loads((folder / "config.json").read_text())


def test_sizes_are_read_off_the_tensors(case) -> None:  # type: ignore[no-untyped-def]
    decoder, _, recorded = case
    config = decoder.config.to_dict()
    assert {key: config[key] for key in recorded["config"]} == recorded["config"]
    assert config["nodes"] == "stored"


def test_kernels(case) -> None:  # type: ignore[no-untyped-def]
    decoder, expected, _ = case
    for i, block in enumerate(decoder.blocks):
        assert relative_error(block.s4.conv.ssm_kernel(), expected[f"kernel_{i}"]) <= 5e-5


def test_logits_at_every_recorded_length(case) -> None:  # type: ignore[no-untyped-def]
    decoder, expected, recorded = case
    for length in recorded["lengths"]:
        assert relative_error(decoder(expected[f"input_{length}"]), expected[f"logits_{length}"]) <= 1e-5


def test_gradient_of_every_parameter(case) -> None:  # type: ignore[no-untyped-def]
    decoder, expected, recorded = case
    (0.5 * decoder(expected[f"input_{recorded['lengths'][0]}"]).pow(2).mean()).backward()
    names = original.convert(_original_state(recorded), decoder.config).names
    compared = set()
    for name, parameter in decoder.named_parameters():
        recorded_gradient = expected[f"grad.{names[name]}"]
        if recorded_gradient.dim() == 4:  # B with the low-rank P, C with Q
            recorded_gradient = recorded_gradient[:, int(name[-1] in "PQ")]
        assert parameter.grad is not None
        assert relative_error(parameter.grad, recorded_gradient.reshape(parameter.shape)) <= 1e-3, name
        compared.add(f"grad.{names[name]}")
    assert compared == {name for name in expected if name.startswith("grad.")}


def _original_state(recorded: dict[str, object]) -> dict[str, torch.Tensor]:
    name = NAMES[0] if recorded["state_dict_prefix"] == "" else NAMES[1]
    state = torch.load(RESOURCES / name / "checkpoint.pt", weights_only=True)
    return {key.removeprefix(str(recorded["state_dict_prefix"])): value for key, value in state.items()}


def test_exact_kernel_of_the_same_weights_differs_only_by_the_nodes_rounding() -> None:
    """The checkpoint's rounded nodes are a quirk, not another model: exact ones give nearly the same kernel."""
    decoder = load_checkpoint(RESOURCES / "lvu-small" / "checkpoint.pt").heads["decoder"]
    conv = decoder.blocks[0].s4.conv
    stored = conv.ssm_kernel()
    conv.omega = conv.z = None
    assert 0 < relative_error(conv.ssm_kernel(), stored) < 5e-3
