import pytest

from vis4mer.cli.epochs import epoch_line

CLASSES = {
    "epoch": 3,
    "lr": 0.001,
    "train_loss": 0.69312,
    "val_loss": 0.5,
    "val_accuracy": 5 / 6,
    "val_window_accuracy": 0.7,
    "seconds": 1.2,
}
VALUES = {"epoch": 12, "train_loss": 1234.5, "val_loss": 0.000012345, "val_mse": 0.0123456}


def test_the_line_of_an_epoch_explains_itself() -> None:
    assert epoch_line(CLASSES, 40, 80, is_best=True) == (
        "epoch  3 of 40  train loss 0.6931  val loss 0.5000  val accuracy 83.3%  best"
    )
    assert epoch_line(CLASSES, 40, 80) == epoch_line(CLASSES, 40, 80, is_best=True).removesuffix("  best")
    assert epoch_line(VALUES, 100, 100) == "epoch  12 of 100  train loss 1234  val loss 1.234e-05  val MSE 0.01235"


def test_a_narrow_terminal_shows_fewer_figures() -> None:
    assert epoch_line(CLASSES, 40, 60, is_best=True) == "epoch  3 of 40  val loss 0.5000  val accuracy 83.3%  best"
    assert epoch_line(CLASSES, 40, 40, is_best=True) == "epoch  3 of 40  accuracy 83.3%  best"


@pytest.mark.parametrize("width", [40, 60, 80])
@pytest.mark.parametrize("n_epochs", [1, 40, 500])
@pytest.mark.parametrize("record", [CLASSES | {"val_accuracy": 1.0}, CLASSES | {"train_loss": 1.234e-5}, VALUES])
def test_a_line_fits_the_terminal(record: dict[str, float], n_epochs: int, width: int) -> None:
    assert len(epoch_line(record, n_epochs, width, is_best=True)) <= width
