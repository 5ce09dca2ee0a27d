"""The limit counts the matrix products of the decoder, and computes them."""

import pytest
import torch

from benchmarks.measure import products
from benchmarks.measure.products import Product, decoder_products, fastest, run_products, torch_mm
from vis4mer_kernels import linear


def test_paper_decoder_has_35_gigaflop() -> None:
    paper = decoder_products(11820, 1024, 3)
    assert paper[:2] == [Product(11820, 1024, 1024), Product(5910, 1024, 512)]
    assert round(sum(product.flop for product in paper) / 1e9, 1) == 35.3


@pytest.mark.parametrize("transposed", ["neither", "first", "second"])
def test_the_faster_library_computes_the_product(transposed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "_WORTHWHILE", 0)
    results: list[torch.Tensor] = []
    monkeypatch.setattr(products, "linear", lambda a, b: results.append(linear.linear(a, b)))
    a = torch.randn(5, 7).t() if transposed == "first" else torch.randn(7, 5)
    b = torch.randn(5, 3).t() if transposed == "second" else torch.randn(3, 5)
    fastest(a, b, torch.empty(7, 3))
    torch.testing.assert_close(results[0], a @ b.t())


def test_each_product_runs_once_in_forward_and_three_times_in_a_step() -> None:
    both = [Product(7, 5, 3), Product(2, 3, 4)]
    for multiply in (fastest, torch_mm):
        for backward, times in ((False, 1), (True, 3)):
            run = run_products(both, torch.float32, backward=backward, multiply=multiply)
            with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
                run()
            assert counter.get_total_flops() == times * sum(product.flop for product in both)
