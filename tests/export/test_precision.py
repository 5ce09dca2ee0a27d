import pytest
import torch

from vis4mer.config import DecoderConfig, Preprocessing
from vis4mer.models.decoder import S4Decoder
from vis4mer.models.encoder import FrameEncoder
from vis4mer_export.freeze import freeze
from vis4mer_export.precision import DTYPES, in_precision


@pytest.mark.parametrize(("precision", "digits"), [("fp16", 11), ("bf16", 8)])
def test_encoder_keeps_its_weights_in_half_and_its_norms_in_full(precision: str, digits: int) -> None:
    torch.manual_seed(0)
    encoder = FrameEncoder.build("test_vit", Preprocessing(height=64, width=64), "random").eval()
    typed = in_precision(encoder, precision)  # type: ignore[arg-type]
    half = DTYPES[precision]  # type: ignore[index]
    dtypes = {name: parameter.dtype for name, parameter in typed.named_parameters()}
    assert {dtypes[name] for name in dtypes if "qkv" in name or "fc1" in name or ".proj." in name} >= {half}
    assert all(dtype == half for name, dtype in dtypes.items() if "qkv" in name or "fc" in name)
    assert all(dtype == torch.float32 for name, dtype in dtypes.items() if "norm" in name or "pos_embed" in name)
    frames = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        expected, actual = encoder(frames), typed(frames)
    assert actual.dtype == torch.float32
    error = float((actual - expected).norm() / expected.norm())
    assert 0 < error < 16 * 2.0**-digits
    assert {p.dtype for p in encoder.parameters()} == {torch.float32}


@pytest.mark.parametrize(("precision", "digits"), [("fp16", 11), ("bf16", 8)])
@pytest.mark.parametrize("lowering", ["fft", "blocked_toeplitz", "matmul_dft"])
def test_heads_round_their_products_only(precision: str, digits: int, lowering: str) -> None:
    torch.manual_seed(0)
    decoder = S4Decoder(DecoderConfig(64, 500, 5, 64, 3)).eval()
    frozen = freeze(decoder, 500, (lowering,)).module  # type: ignore[arg-type]
    typed = in_precision(frozen, precision)  # type: ignore[arg-type]
    buffers = {name.rpartition(".")[2]: buffer.dtype for name, buffer in typed.named_buffers()}
    half = DTYPES[precision]  # type: ignore[index]
    products = {"blocked_toeplitz": {"within", "readout"}, "matmul_dft": {"down", "along", "back_along", "up"}}
    assert {name for name, dtype in buffers.items() if dtype == half} == products.get(lowering, set())
    x = torch.randn(4, 500, 64)
    with torch.inference_mode():
        expected, actual = decoder(x), typed(x)
    error = float((actual - expected).norm() / expected.norm())
    assert 0 < error < 16 * 2.0**-digits


def test_full_precision_is_the_module_itself() -> None:
    decoder = S4Decoder(DecoderConfig(12, 100, 5, 16, 3))
    assert in_precision(decoder, "fp32") is decoder
