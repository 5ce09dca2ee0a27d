import math

import pytest
import torch

from vis4mer.training.evaluation.metrics import Predictions, window_loss


def test_a_movies_label_has_the_greatest_sum_of_probabilities() -> None:
    # Movie 0: two windows slightly favour class 1, one is certain of class 0. Sums of logits, or votes, favour class 1.
    probabilities = torch.tensor([[0.45, 0.55], [0.45, 0.55], [0.99, 0.01], [0.2, 0.8]])
    logits = probabilities.log() * 1.0 + torch.tensor([[5.0], [0.0], [-3.0], [1.0]])
    result = Predictions.from_windows(
        logits, torch.tensor([0.0, 0.0, 0.0, 1.0]), torch.tensor([0, 0, 0, 1]), "classification"
    )
    assert result.metric == 1.0
    assert result.window_metric == 0.5
    torch.testing.assert_close(result.scores[0], torch.tensor([0.63, 0.37], dtype=torch.float64), atol=1e-6, rtol=0)
    expected = -(math.log(0.45) * 2 + math.log(0.99) + math.log(0.8)) / 4
    assert result.loss == pytest.approx(expected, rel=1e-5)


def test_a_movies_value_is_the_mean_of_its_windows() -> None:
    outputs = torch.tensor([[1.0], [3.0], [5.0]])
    result = Predictions.from_windows(outputs, torch.tensor([2.5, 2.5, 4.0]), torch.tensor([0, 0, 1]), "regression")
    assert result.scores.tolist() == [[2.0], [5.0]]
    assert result.metric == pytest.approx((0.25 + 1.0) / 2)
    assert result.window_metric == result.loss == pytest.approx((2.25 + 0.25 + 1.0) / 3)


def test_losses() -> None:
    logits, targets = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([0.0, 1.0])
    assert window_loss(logits, targets, "classification").item() == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)
    assert window_loss(torch.tensor([[1.0], [3.0]]), targets, "regression").item() == pytest.approx((1 + 4) / 2)
