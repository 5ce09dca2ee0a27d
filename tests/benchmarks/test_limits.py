"""The limit counts the products it says, and computes them."""

import limits
import pytest
import torch
from limits import Product, decoder_products, fastest, run_products, torch_mm

from vis4mer_kernels import linear


def test_paper_decoder_has_35_gigaflop() -> None:
    products = decoder_products(11820, 1024, 3)
    assert products[:2] == [Product(11820, 1024, 1024), Product(5910, 1024, 512)]
    assert round(sum(p.flop for p in products) / 1e9, 1) == 35.3


@pytest.mark.parametrize("turned", ["neither", "first", "second"])
def test_the_faster_library_computes_the_product(turned: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linear, "_WORTHWHILE", 0)
    results: list[torch.Tensor] = []
    monkeypatch.setattr(limits, "linear", lambda a, b: results.append(linear.linear(a, b)))
    a = torch.randn(5, 7).t() if turned == "first" else torch.randn(7, 5)
    b = torch.randn(5, 3).t() if turned == "second" else torch.randn(3, 5)
    fastest(a, b, torch.empty(7, 3))
    torch.testing.assert_close(results[0], a @ b.t())


def test_each_product_runs_once_forward_and_thrice_in_a_step() -> None:
    products = [Product(7, 5, 3), Product(2, 3, 4)]
    for multiply in (fastest, torch_mm):
        for backward, times in ((False, 1), (True, 3)):
            run = run_products(products, torch.float32, backward=backward, multiply=multiply)
            with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
                run()
            assert counter.get_total_flops() == times * sum(p.flop for p in products)
