import pytest
import torch

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder
from vis4mer.training.config import TrainConfig
from vis4mer.training.fit.optim import build_optimizer, build_scheduler, parameter_groups


@pytest.fixture
def head() -> S4Decoder:
    return S4Decoder(DecoderConfig(4, 16, 2, d_model=8, n_layers=2, d_state=4))


def test_a_b_and_dt_form_a_group_without_decay(head: S4Decoder) -> None:
    names = {id(parameter): name for name, parameter in head.named_parameters()}
    weights, ssm = parameter_groups(head, TrainConfig(lr=1e-2, ssm_lr=1e-4, weight_decay=0.3))
    assert (weights["lr"], weights["weight_decay"], ssm["lr"], ssm["weight_decay"]) == (1e-2, 0.3, 1e-4, 0)
    expected = {f"blocks.{i}.s4.conv.{name}" for i in (0, 1) for name in ("log_dt", "w", "B", "P", "Q")}
    assert {names[id(parameter)] for parameter in ssm["params"]} == expected
    assert {names[id(parameter)] for parameter in weights["params"]} == set(names.values()) - expected


def test_only_the_weights_decay(head: S4Decoder) -> None:
    optimizer = build_optimizer(head, TrainConfig(lr=0.1, ssm_lr=0.1, weight_decay=0.5))
    before = {name: parameter.detach().clone() for name, parameter in head.named_parameters()}
    for parameter in head.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    conv = "blocks.0.s4.conv."
    for name in ("log_dt", "w", "B", "P", "Q"):
        assert torch.equal(head.get_parameter(conv + name), before[conv + name])
    for name in (conv + "C", conv + "D", "output.weight"):
        torch.testing.assert_close(head.get_parameter(name), before[name] * 0.95)


def test_cosine_warms_up_and_falls_to_zero(head: S4Decoder) -> None:
    config = TrainConfig(epochs=5, lr=1.0, ssm_lr=0.1, warmup=0.2)
    optimizer = build_optimizer(head, config)
    scheduler = build_scheduler(optimizer, config, "classification", steps_per_epoch=4)
    rates = []
    for _ in range(20):
        rates.append(optimizer.param_groups[0]["lr"])
        assert optimizer.param_groups[1]["lr"] == pytest.approx(0.1 * rates[-1])
        optimizer.step()
        scheduler.step()  # type: ignore[call-arg]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[12] == pytest.approx(0.5)
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("task", "improving"), [("classification", 1), ("regression", -1)])
def test_plateau_decays_when_the_metric_stops_improving(head: S4Decoder, task: str, improving: int) -> None:
    config = TrainConfig(lr=1.0, schedule="plateau")
    optimizer = build_optimizer(head, config)
    scheduler = build_scheduler(optimizer, config, task, steps_per_epoch=4)  # type: ignore[arg-type]
    for epoch in range(5):
        scheduler.step(0.5 + 0.05 * improving * epoch)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == 1.0
    for _ in range(2):
        scheduler.step(0.5)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.9])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_cosine_lasts_through_the_shortest_run(steps: int, warmup: float) -> None:
    head = S4Decoder(DecoderConfig(8, 16, 2, 8, 1, d_state=4))
    config = TrainConfig(epochs=1, warmup=warmup)
    optimizer = build_optimizer(head, config)
    scheduler = build_scheduler(optimizer, config, "classification", steps)
    for _ in range(steps):
        optimizer.step()
        scheduler.step()
    assert 0 <= optimizer.param_groups[0]["lr"] <= config.lr


def test_as_published_the_rate_decays_while_the_accuracy_rises(head: S4Decoder) -> None:
    config = TrainConfig(lr=1.0, schedule="plateau", as_published=True)
    optimizer = build_optimizer(head, config)
    scheduler = build_scheduler(optimizer, config, "classification", steps_per_epoch=4)
    for accuracy in (0.5, 0.6, 0.7):
        scheduler.step(accuracy)  # type: ignore[arg-type]
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2)
