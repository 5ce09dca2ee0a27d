import dataclasses
import io
import json
import logging
import math
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import vis4mer
from vis4mer.errors import CheckpointError, ConfigError, DataError, DeviceError
from vis4mer.files import atomic_file
from vis4mer.models.vis4mer import Vis4mer
from vis4mer.training.config import TrainConfig
from vis4mer.training.evaluation.inference import predict_windows
from vis4mer.training.fit.loop import Trainer
from vis4mer.training.fit.state import RunFolder
from vis4mer.training.progress import EpochRecord
from vis4mer.training.provenance import Origin
from vis4mer.training.tokens.files import write_tokens
from vis4mer.training.tokens.windows import AllWindows, TrainingMovie

Make = Callable[..., Any]
Data = tuple[list[TrainingMovie], list[TrainingMovie]]

_CONFIG = TrainConfig(epochs=4, batch_size=4, lr=1e-2)


@pytest.fixture
def data(make_movies: Make) -> Data:
    return make_movies(10, seed=1), make_movies(6, seed=2)


def weights(model: Vis4mer) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def assert_same(a: dict[str, Tensor], b: dict[str, Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [name for name in a if not torch.equal(a[name], b[name])] == []


def stop_after(epochs: int) -> Callable[[EpochRecord], None]:
    def on_epoch(record: EpochRecord) -> None:
        if record["epoch"] == epochs:
            raise KeyboardInterrupt

    return on_epoch


def untimed(history: list[EpochRecord]) -> list[dict[str, float]]:
    return [{name: value for name, value in record.items() if name != "seconds"} for record in history]


def test_learns_the_label_that_one_frame_reveals(tmp_path: Path, make_model: Make, make_movies: Make) -> None:
    train, val = make_movies(64, seed=1), make_movies(32, seed=2)
    trainer = Trainer(
        make_model(), "decoder", train, val, TrainConfig(epochs=25, batch_size=8, lr=1e-2), RunFolder(tmp_path / "run")
    )
    history = trainer.run()
    assert history[0]["train_loss"] > 0.6
    assert trainer.best["val_accuracy"] >= 0.95
    assert trainer.best["val_loss"] < 0.2


def test_learns_a_value(tmp_path: Path, make_model: Make, make_movies: Make) -> None:
    train, val = make_movies(64, seed=1, regression=True), make_movies(32, seed=2, regression=True)
    config = TrainConfig(epochs=25, batch_size=8, lr=1e-2, schedule="plateau")
    trainer = Trainer(make_model(regression=True), "decoder", train, val, config, RunFolder(tmp_path / "run"))
    trainer.run()
    variance = torch.tensor([movie.target for movie in val]).var().item()
    assert trainer.best["val_mse"] < 0.5 * variance


def test_the_saved_best_model_reproduces_the_recorded_figures(tmp_path: Path, make_model: Make, data: Data) -> None:
    trainer = Trainer(make_model(stride=2.0), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run"))
    history = trainer.run()
    assert trainer.best == max(history, key=lambda record: (record["val_accuracy"], -record["val_loss"]))
    assert [json.loads(line) for line in (tmp_path / "run" / "history.jsonl").read_text().splitlines()] == history
    model = Vis4mer.from_pretrained(tmp_path / "run" / "best")
    assert model.config == make_model(stride=2.0).config
    windows = AllWindows(data[1], length=12, stride=2)
    result = predict_windows(
        model.heads["decoder"], windows, "classification", batch_size=4, device=torch.device("cpu")
    )
    assert result.metric == trainer.best["val_accuracy"]
    assert result.loss == pytest.approx(trainer.best["val_loss"], rel=1e-6)


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(
    tmp_path: Path, make_model: Make, data: Data, schedule: str
) -> None:
    config = TrainConfig(epochs=4, batch_size=4, lr=1e-2, schedule=schedule)  # type: ignore[arg-type]
    whole = make_model()
    whole_history = Trainer(whole, "decoder", *data, config, RunFolder(tmp_path / "whole")).run()

    with pytest.raises(KeyboardInterrupt):
        Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path / "parts")).run(on_epoch=stop_after(2))
    torch.rand(7)  # other uses of the global generator must not matter
    resumed = make_model()
    trainer = Trainer(resumed, "decoder", *data, config, RunFolder(tmp_path / "parts", resume=True))
    assert untimed(trainer.history) == untimed(whole_history[:2])
    assert untimed(trainer.run()) == untimed(whole_history)
    assert_same(weights(resumed), weights(whole))
    for folder in ("best", "last"):
        stored = [Vis4mer.from_pretrained(tmp_path / run / folder) for run in ("whole", "parts")]
        assert_same(weights(stored[0]), weights(stored[1]))


def test_an_interruption_in_an_epoch_keeps_the_last_complete_one(tmp_path: Path, make_model: Make, data: Data) -> None:
    after_one = make_model()
    Trainer(after_one, "decoder", *data, _CONFIG, RunFolder(tmp_path / "one"))
    with pytest.raises(KeyboardInterrupt):
        Trainer(after_one, "decoder", *data, _CONFIG, RunFolder(tmp_path / "one")).run(on_epoch=stop_after(1))

    def on_step(done: int, total: int) -> None:
        assert total == 4 * 3
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run")).run(on_step=on_step)
    assert_same(weights(Vis4mer.from_pretrained(tmp_path / "run" / "last")), weights(after_one))


def test_the_seed_determines_the_result(tmp_path: Path, make_model: Make, data: Data) -> None:
    losses = []
    for run, seed in enumerate((0, 0, 1)):
        config = TrainConfig(epochs=1, batch_size=4, seed=seed)
        history = Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path / str(run))).run()
        losses.append(history[0]["train_loss"])
    assert losses[0] == losses[1] != losses[2]


def test_the_encoder_and_other_heads_are_not_trained(tmp_path: Path, make_model: Make, data: Data) -> None:
    model = make_model()
    model.heads["other"] = make_model().heads["decoder"]
    before = weights(model)
    Trainer(model, "decoder", *data, TrainConfig(epochs=1, batch_size=4), RunFolder(tmp_path / "run")).run()
    changed = {name for name, tensor in weights(model).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(name.startswith("heads.decoder.") for name in changed)


def test_a_device_that_pytorch_lacks_is_a_one_line_error(tmp_path: Path, make_model: Make, data: Data) -> None:
    with pytest.raises(DeviceError, match=r"device='cuda:99': PyTorch cannot use it"):
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run"), device="cuda:99")


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path, make_model: Make, data: Data) -> None:
    model = make_model()
    with torch.no_grad():
        model.heads["decoder"].output.weight.fill_(float("inf"))
    trainer = Trainer(model, "decoder", *data, _CONFIG, RunFolder(tmp_path / "run"))
    with pytest.raises(ConfigError, match=r"lr=0\.01: with ssm_lr=.*step 1 of epoch 1; lower both rates"):
        trainer.run()
    assert not (tmp_path / "run" / "last").exists()


def test_a_run_is_not_overwritten(tmp_path: Path, make_model: Make, data: Data) -> None:
    config = TrainConfig(epochs=1, batch_size=4)
    Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path)).run()
    with pytest.raises(ConfigError, match="already holds a run"):
        RunFolder(tmp_path)


def test_a_run_resumes_with_the_same_settings_and_data_only(
    tmp_path: Path, make_model: Make, make_movies: Make, data: Data
) -> None:
    config = TrainConfig(epochs=1, batch_size=4)
    Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path)).run()
    folder = RunFolder(tmp_path, resume=True)
    with pytest.raises(ConfigError, match=r"lr=0\.5: is 0\.001 in the run that .* holds; start a new"):
        Trainer(make_model(), "decoder", *data, TrainConfig(epochs=1, batch_size=4, lr=0.5), folder)
    with pytest.raises(ConfigError, match="data: has changed"):
        Trainer(make_model(), "decoder", data[0][:-1], data[1], config, folder)
    with pytest.raises(ConfigError, match="model: has changed"):
        Trainer(make_model(stride=2.0), "decoder", *data, config, folder)
    longer = Trainer(make_model(), "decoder", *data, TrainConfig(epochs=2, batch_size=4), folder)
    assert [record["epoch"] for record in longer.run()] == [1, 2]


def test_a_run_that_resumes_with_more_epochs_follows_their_schedule(
    tmp_path: Path, make_model: Make, data: Data, caplog: pytest.LogCaptureFixture
) -> None:
    short = TrainConfig(epochs=2, batch_size=4, lr=1e-2, ssm_lr=1e-3, warmup=0.0)
    long = dataclasses.replace(short, epochs=6)
    Trainer(make_model(), "decoder", *data, short, RunFolder(tmp_path / "run")).run()
    trainer = Trainer(make_model(), "decoder", *data, long, RunFolder(tmp_path / "run", resume=True))
    # Without a warm-up, the rate is half a cosine of all steps: 6 epochs of 3 steps, of which 6 are done.
    expected = 0.5 * (1 + math.cos(math.pi * 6 / 18))
    rates = [group["lr"] for group in trainer._optimizer.param_groups]
    assert rates == pytest.approx([1e-2 * expected, 1e-3 * expected], rel=1e-12)
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "the run was begun with epochs=2 and continues with 6: from here on, its learning rates are those of 6 epochs"
    ]
    assert trainer.run()[2]["lr"] == pytest.approx(1e-2 * expected, rel=1e-12)

    caplog.clear()
    Trainer(make_model(), "decoder", *data, long, RunFolder(tmp_path / "run", resume=True))
    assert "begun with" not in caplog.text


def test_a_plateau_run_that_resumes_with_more_epochs_equals_an_uninterrupted_one(
    tmp_path: Path, make_model: Make, data: Data
) -> None:
    # The schedule does not depend on the number of epochs. The high rate makes it decay within four.
    long = TrainConfig(epochs=4, batch_size=4, lr=0.1, schedule="plateau", as_published=True)
    whole = make_model()
    history = Trainer(whole, "decoder", *data, long, RunFolder(tmp_path / "whole")).run()
    short = dataclasses.replace(long, epochs=2)
    Trainer(make_model(), "decoder", *data, short, RunFolder(tmp_path / "parts")).run()
    resumed = make_model()
    trainer = Trainer(resumed, "decoder", *data, long, RunFolder(tmp_path / "parts", resume=True))
    assert untimed(trainer.run()) == untimed(history)
    assert history[-1]["lr"] < 0.1
    assert_same(weights(resumed), weights(whole))


def test_a_run_does_not_resume_with_fewer_epochs_than_it_has(tmp_path: Path, make_model: Make, data: Data) -> None:
    Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path)).run()
    fewer = dataclasses.replace(_CONFIG, epochs=3)
    with pytest.raises(ConfigError, match=r"epochs=3: the run that .* holds has completed 4; set at least 4, or start"):
        Trainer(make_model(), "decoder", *data, fewer, RunFolder(tmp_path, resume=True))


def test_a_damaged_state_is_named(tmp_path: Path, make_model: Make, data: Data) -> None:
    config = TrainConfig(epochs=1, batch_size=4)
    Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path)).run()
    state = tmp_path / "last" / "trainer.pt"
    state.write_bytes(state.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"trainer\.pt.*cannot be read"):
        Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path, resume=True))


def _damage(state: dict[str, Any], *keys: Any, value: Any) -> None:
    for key in keys[:-1]:
        state = state[key]
    if value is None:
        del state[keys[-1]]
    else:
        state[keys[-1]] = value


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        *(((name,), None, f"'{name}'") for name in ("identity", "history", "head", "optimizer", "scheduler")),
        (("epochs",), "4", "malformed 'epochs'"),
        (("history",), [], "malformed history"),
        (("history", 0), {"epoch": 1}, "malformed history"),
        (("history", 0, "val_loss"), "low", "malformed history"),
        (("head", "output.bias"), 1.0, "not a state dict"),
        (("head", "output.bias"), None, "'output.bias' is missing"),
        (("head", "output.bias"), torch.zeros(7), r"has shape \(7,\) where the model has"),
        (("head", "output.bias"), torch.tensor([1.0, math.nan]), "holds NaN"),
        (("optimizer", "param_groups"), [], "other groups of parameters"),
        (("optimizer", "param_groups", 0, "params"), [5], "other parameters"),
        (("optimizer", "param_groups", 0, "betas"), (0.9,), "malformed 'betas'"),
        (("optimizer", "state", 0), None, "lacks the moments"),
        (("optimizer", "state", 0, "exp_avg"), torch.zeros(1), "do not fit parameter 0"),
        (("optimizer", "state", 0, "step"), 3, "do not fit parameter 0"),
        (("scheduler", "last_epoch"), None, "lacks 'last_epoch'"),
        (("scheduler", "lr_lambdas"), None, "lacks 'lr_lambdas'"),
        (("scheduler", "last_epoch"), "3", "malformed 'last_epoch'"),
        (("scheduler", "base_lrs"), [0.1], "malformed 'base_lrs'"),
    ],
)
def test_a_state_that_was_edited_is_refused_in_one_line(
    keys: tuple[Any, ...], value: Any, message: str, tmp_path: Path, make_model: Make, data: Data
) -> None:
    config = TrainConfig(epochs=1, batch_size=4)
    Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path)).run()
    path = tmp_path / "last" / "trainer.pt"
    state = torch.load(path, weights_only=True)
    _damage(state, *keys, value=value)
    torch.save(state, path)
    with pytest.raises(CheckpointError, match=message) as refused:
        Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path, resume=True))
    assert "trainer.pt" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_data_that_does_not_fit_is_rejected_before_the_first_step(tmp_path: Path, make_model: Make, data: Data) -> None:
    train, val = data
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(DataError, match="split='val'"):
        Trainer(make_model(), "decoder", train, [], _CONFIG, folder)
    for target in (2, -1, 0.5):
        with pytest.raises(DataError, match=rf"target={target}.*d_output=2"):
            Trainer(make_model(), "decoder", [*train, TrainingMovie(train[0].token_file, target)], val, _CONFIG, folder)
    foreign = write_tokens(tmp_path / "foreign", [torch.zeros(12, 2, 5)], {})
    with pytest.raises(DataError, match="2 tokens of 5 features per frame, but the model takes 2 of 4"):
        Trainer(make_model(), "decoder", [*train, TrainingMovie(foreign, 0)], val, _CONFIG, folder)


def test_a_run_that_was_killed_while_saving_continues(
    tmp_path: Path,
    make_model: Make,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A run killed between writing the models and the state of epoch 2 repeats the epoch, to the same bits."""
    whole = make_model()
    Trainer(whole, "decoder", *data, _CONFIG, RunFolder(tmp_path / "whole")).run()

    save_state, calls = RunFolder.save_state, []

    def killed_in_epoch_2(folder: RunFolder, state: dict[str, Any]) -> None:
        calls.append(state)
        if len(calls) == 2:
            (folder.path / ".staging").mkdir()
            raise KeyboardInterrupt
        save_state(folder, state)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(RunFolder, "save_state", killed_in_epoch_2)
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "parts")).run()
    resumed = Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "parts", resume=True))
    assert len(resumed.history) == 1
    assert len(resumed.run()) == 4
    assert_same(weights(Vis4mer.from_pretrained(tmp_path / "parts" / "last")), weights(whole))
    assert not (tmp_path / "parts" / ".staging").exists()


def test_a_full_disk_is_a_one_line_error(
    tmp_path: Path,
    make_model: Make,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(self: Vis4mer, folder: Path, **settings: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Vis4mer, "save_pretrained", full)
    with pytest.raises(DataError, match=r"output=.*No space left on device"):
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run")).run()


@pytest.mark.parametrize("name", ["config.json", "trainer.pt"])
def test_a_disk_that_fails_while_saving_is_one_line_and_leaves_nothing(
    name: str, tmp_path: Path, make_model: Make, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(5, "Input/output error")

    @contextmanager
    def failing(path: Path) -> Iterator[Any]:
        with atomic_file(path) as file:
            yield Failing() if path.name == name else file

    for module in ("models.vis4mer", "training.fit.state"):
        monkeypatch.setattr(f"vis4mer.{module}.atomic_file", failing)
    with pytest.raises(DataError, match=r"output=.*Input/output error"):
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run")).run()
    assert [path.name for path in (tmp_path / "run").rglob(".*")] == []


def test_too_little_disk_space_is_an_error_before_the_first_step(
    tmp_path: Path,
    make_model: Make,
    data: Data,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 10_000))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"output=.*0 MB are free, but models and training state need"):
        Trainer(make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / "run"))


def test_a_model_holds_a_record_of_its_training(tmp_path: Path, make_model: Make, data: Data) -> None:
    missing, skipped = {"train": ("a", "b", "c"), "val": ()}, {"train": (), "test": ("d",)}
    origin = Origin("vis4mer train movies.csv", "lvu/scene", "test", missing, skipped)
    config = TrainConfig(epochs=2, batch_size=4, schedule="plateau", as_published=True)
    history = Trainer(make_model(), "decoder", *data, config, RunFolder(tmp_path / "run"), origin=origin).run()
    record = json.loads((tmp_path / "run" / "last" / "training.json").read_text())
    assert record["command"] == "vis4mer train movies.csv"
    assert (record["protocol"], record["chosen_on"]) == ("lvu/scene", "test")
    assert (record["data"]["train"], record["data"]["test"]) == (10, 6)
    assert record["data"]["missing"] == {"train": ["a", "b", "c"], "val": []}
    assert record["data"]["skipped"] == {"train": [], "test": ["d"]}
    assert record["settings"]["as_published"] is True
    assert record["figures"] == history[-1]
    assert record["code"]["vis4mer"] == vis4mer.__version__
    assert json.loads((tmp_path / "run" / "best" / "training.json").read_text())["figures"] in history
    lines = (tmp_path / "run" / "last" / "README.md").read_text().splitlines()
    assert "- Movies: 10 to learn from, 6 (test) to choose the epoch by" in lines
    assert "- Missing movies: 3 of train" in lines
    assert "- Unreadable movies: 1 of test" in lines
    assert any("chosen on the test split" in line for line in lines)
    assert not any("movies.csv" in line for line in lines)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_computes_at_the_requested_precision(
    tmp_path: Path, make_model: Make, data: Data, precision: Any
) -> None:
    model, dtypes = make_model(), set()
    model.heads["decoder"].output.register_forward_hook(lambda layer, inputs, output: dtypes.add(output.dtype))
    config = TrainConfig(epochs=8, batch_size=4, lr=1e-2, precision=precision)
    history = Trainer(model, "decoder", *data, config, RunFolder(tmp_path / "run")).run()
    assert dtypes == {torch.bfloat16 if precision == "bf16" else torch.float32}
    assert {tensor.dtype for tensor in model.state_dict().values()} == {torch.float32}
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_loader_workers_read_the_same_windows(tmp_path: Path, make_model: Make, data: Data) -> None:
    histories = [
        Trainer(
            make_model(), "decoder", *data, _CONFIG, RunFolder(tmp_path / str(workers)), loader_workers=workers
        ).run()
        for workers in (0, 2)
    ]
    assert untimed(histories[0]) == untimed(histories[1])
