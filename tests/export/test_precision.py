import pytest
import torch
from einops import rearrange
from timm.layers.attention import Attention
from torch import Tensor

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


def attention_with_a_softmax_in_fp32(attention: Attention, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Rounds queries, keys, values, products and weights to `dtype`, as an unfused graph does."""

    def product(a: Tensor, b: Tensor) -> Tensor:
        return torch.matmul(a.to(dtype).float(), b.to(dtype).float()).to(dtype).float()

    def linear(layer: torch.nn.Linear, x: Tensor) -> Tensor:
        return product(x, layer.weight.T) + layer.bias

    qkv = rearrange(linear(attention.qkv, x), "b p (three h d) -> three b h p d", three=3, h=attention.num_heads)
    q, k, v = qkv.unbind(0)
    weights = product(q * attention.scale, k.transpose(-2, -1)).softmax(dim=-1)
    return linear(attention.proj, rearrange(product(weights, v), "b h p d -> b p (h d)"))


@pytest.mark.parametrize("sharpness", [1, 8, 32])
@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_fused_attention_is_as_accurate_as_a_softmax_in_fp32(precision: str, sharpness: int) -> None:
    """Logits reach 6, 50 and 200, so that attention ranges from even weights to one token."""
    torch.manual_seed(0)
    attention = Attention(128, num_heads=2, qkv_bias=True).eval()
    with torch.no_grad():
        attention.qkv.weight[:256] *= sharpness**0.5
    x = 2 * torch.randn(2, 50, 128)
    holder = torch.nn.Sequential(attention)
    with torch.inference_mode():
        expected = attention(x)
        actual = in_precision(holder, precision)(x)  # type: ignore[arg-type]
        unfused = attention_with_a_softmax_in_fp32(attention, x, DTYPES[precision])  # type: ignore[index]
    assert actual.dtype == torch.float32
    error, bound = ((y - expected).norm() / expected.norm() for y in (actual, unfused))
    assert 0 < float(error) < 1.1 * float(bound)


def test_norms_within_attention_stay_in_fp32() -> None:
    torch.manual_seed(0)
    attention = Attention(64, num_heads=2, qk_norm=True, scale_norm=True, norm_layer=torch.nn.LayerNorm).eval()
    typed = in_precision(torch.nn.Sequential(attention), "fp16")
    dtypes = {name: parameter.dtype for name, parameter in typed.named_parameters()}
    assert {dtype for name, dtype in dtypes.items() if "norm" in name} == {torch.float32}
    x = torch.randn(2, 9, 64)
    with torch.inference_mode():
        torch.testing.assert_close(typed(x), attention(x), rtol=0, atol=4e-3)
