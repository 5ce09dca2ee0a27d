"""The limit counts the products it says, and computes them."""

import torch
from limits import Product, decoder_products, fastest, run_products, torch_mm


def test_paper_decoder_has_35_gigaflop() -> None:
    products = decoder_products(11820, 1024, 3)
    assert products[:2] == [Product(11820, 1024, 1024), Product(5910, 1024, 512)]
    assert round(sum(p.flop for p in products) / 1e9, 1) == 35.3


def test_each_product_runs_once_forward_and_thrice_in_a_step() -> None:
    products = [Product(7, 5, 3), Product(2, 3, 4)]
    for multiply in (fastest, torch_mm):
        for backward, times in ((False, 1), (True, 3)):
            run = run_products(products, torch.float32, backward=backward, multiply=multiply)
            with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
                run()
            assert counter.get_total_flops() == times * sum(p.flop for p in products)
