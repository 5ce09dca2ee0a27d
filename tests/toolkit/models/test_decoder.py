import pytest
import torch

from vis4mer.config import DecoderConfig
from vis4mer.errors import ConfigError
from vis4mer.models.decoder import S4Decoder

CONFIG = DecoderConfig(d_input=12, l_max=100, d_output=5, d_model=16, n_layers=3, d_state=8, dropout=0.5)


def test_halves_length_and_width_block_by_block() -> None:
    decoder = S4Decoder(CONFIG).eval()
    shapes: list[tuple[int, ...]] = []
    for block in decoder.blocks:
        block.register_forward_hook(lambda _m, _i, output: shapes.append(tuple(output.shape)))
    assert decoder(torch.randn(2, 100, 12)).shape == (2, 5)
    assert shapes == [(2, 50, 8), (2, 25, 4), (2, 12, 2)]
    assert [block.s4.conv.length for block in decoder.blocks] == [100, 50, 25]


@pytest.mark.parametrize("length", [99, 100])
def test_block_equals_the_published_order_of_its_steps(length: int) -> None:
    """Linear layer, residual, then pooling; here averaging comes first, which is the same but for rounding."""
    torch.manual_seed(0)
    block = S4Decoder(CONFIG).double().eval().blocks[0]
    x = torch.randn(2, length, 16, dtype=torch.float64)
    y = torch.nn.functional.gelu(block.s4.conv(block.norm(x).transpose(1, 2))).transpose(1, 2)
    summed = (x + block.s4.output(y)).transpose(1, 2)
    pooled = torch.nn.functional.avg_pool1d(summed, 2).transpose(1, 2)
    expected = torch.nn.functional.gelu(block.reduce(pooled))
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("length", [8, 9, 63, 99, 100])
def test_takes_any_length_up_to_l_max(length: int) -> None:
    assert torch.isfinite(S4Decoder(CONFIG).eval()(torch.randn(1, length, 12))).all()


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 101, 12), "L=101: must be from .*=8 to l_max=100 tokens"), ((1, 7, 12), "L=7"), ((100, 12), r"shape=\(100")],
)
def test_other_shapes_are_refused(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        S4Decoder(CONFIG)(torch.randn(shape))


def test_dropout_drops_whole_channels_of_each_sample() -> None:
    torch.manual_seed(0)
    layer = S4Decoder(CONFIG).blocks[0].s4
    kept: list[torch.Tensor] = []
    layer.dropout.register_forward_hook(lambda _m, _i, output: kept.append(output))
    layer(torch.randn(64, 100, 16) + 3)
    zero = (kept[0] == 0).all(dim=-1)
    assert 0.4 < zero.float().mean() < 0.6
    assert ((kept[0] == 0).float().mean(dim=-1)[~zero] < 0.9).all()  # GELU itself rounds some values to zero
    assert len({tuple(row.tolist()) for row in zero}) > 32  # samples are dropped independently


def test_ssm_parameters_are_a_b_and_dt_of_every_block() -> None:
    decoder = S4Decoder(CONFIG)
    chosen = {id(p) for p in decoder.ssm_parameters()}
    names = {name for name, p in decoder.named_parameters() if id(p) in chosen}
    expected = {f"blocks.{i}.s4.conv.{name}" for i in range(3) for name in ("log_dt", "w", "B", "P", "Q")}
    assert names == expected


def test_bfloat16_autocast_stays_close() -> None:
    torch.manual_seed(0)
    decoder, x = S4Decoder(CONFIG).eval(), torch.randn(4, 100, 12)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = decoder(x)
    assert (half - decoder(x)).norm() / decoder(x).norm() < 2e-2
