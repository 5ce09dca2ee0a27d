import pytest
import torch
from torch import Tensor, nn

from vis4mer_kernels import linear as linears
from vis4mer_kernels.linear import Linear, linear, with_fast_linears


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Enables oneDNN on any processor and for any size; lists the shapes of the results that it computes."""
    if not torch.backends.mkldnn.is_available():
        pytest.skip("this build of PyTorch has no oneDNN")
    computed: list[tuple[int, ...]] = []
    forward = linears._OneDnnLinear.forward

    def counted(*arguments: Tensor) -> Tensor:
        y = forward(*arguments)
        computed.append(tuple(y.shape))
        return y

    monkeypatch.setattr(linears, "onednn_is_faster", lambda: True)
    monkeypatch.setattr(linears, "_WORTHWHILE", 0)
    monkeypatch.setattr(linears._OneDnnLinear, "forward", staticmethod(counted))
    return computed


def _inputs(*lead: int, bias: bool = True) -> list[Tensor | None]:
    torch.manual_seed(0)
    x, weight = torch.randn(*lead, 19, requires_grad=True), torch.randn(7, 19, requires_grad=True)
    return [x, weight, torch.randn(7, requires_grad=True) if bias else None]


@pytest.mark.parametrize("lead", [(5,), (3, 11), (2, 3, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_equals_double_precision_forward_and_backward(
    lead: tuple[int, ...], bias: bool, products: list[tuple[int, ...]]
) -> None:
    inputs = _inputs(*lead, bias=bias)
    leaves = [tensor for tensor in inputs if tensor is not None]
    exact = [tensor.detach().double().requires_grad_() for tensor in leaves]
    y, expected = linear(*inputs), nn.functional.linear(*exact)  # type: ignore[arg-type]
    grad = torch.randn_like(y)
    actual = [y, *torch.autograd.grad(y, leaves, grad)]
    wanted = [expected, *torch.autograd.grad(expected, exact, grad.double())]
    assert products[0] == (*lead, 7)
    for a, b in zip(actual, wanted, strict=True):
        assert a.shape == b.shape
        assert (a - b).norm() / b.norm() < 1e-6


def test_layouts_do_not_matter(products: list[tuple[int, ...]]) -> None:
    x, weight, bias = _inputs(6, 5)
    expected = linear(x, weight, bias)
    turned, sliced = x.transpose(0, 1).contiguous().transpose(0, 1), torch.stack([weight, weight], -1)[..., 0]
    torch.testing.assert_close(linear(turned, sliced, bias), expected, rtol=1e-5, atol=1e-5)
    assert len(products) == 2


def test_has_second_derivatives(products: list[tuple[int, ...]]) -> None:
    x, weight, bias = _inputs(5)
    for form in (linear, nn.functional.linear):
        (slope,) = torch.autograd.grad(form(x, weight, bias).square().sum(), [weight], create_graph=True)
        second = torch.autograd.grad(slope.square().sum(), [x, weight])
        if form is linear:
            first = second
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-3)
    assert len(products) > 2


def test_unneeded_gradients_are_not_computed(products: list[tuple[int, ...]]) -> None:
    x, weight, bias = _inputs(5)
    linear(x.detach(), weight, bias).sum().backward()
    assert products == [(5, 7), (7, 19)]
    assert weight.grad is not None


def test_other_products_are_left_to_pytorch(products: list[tuple[int, ...]]) -> None:
    layer = Linear(19, 7)
    x = torch.randn(5, 19)
    layer(x[0])
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer.double()(x.double()).dtype == torch.float64
    layer.float()
    traced = torch.jit.trace(layer, (x,), check_trace=False)  # type: ignore[no-untyped-call]
    exported = torch.export.export(layer, (x,))
    assert "aten::linear" in str(traced.inlined_graph)
    assert "aten.linear" in str(exported.graph)
    assert products == []
    with torch.inference_mode():
        torch.testing.assert_close(layer(x), exported.module()(x))
    assert products == [(5, 7)]


def test_small_products_are_left_to_pytorch(products: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears, "_WORTHWHILE", 5 * 19 * 7 + 1)
    linear(*_inputs(5))  # type: ignore[arg-type]
    assert products == []


@pytest.mark.parametrize(
    ("vendor", "capability", "faster"),
    [("AuthenticAMD", "AVX512", True), ("GenuineIntel", "AVX512", False), ("AuthenticAMD", "AVX2", False)],
)
def test_the_processor_decides(vendor: str, capability: str, faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linears.Path, "read_text", lambda path: f"vendor_id : {vendor}")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)
    assert linears.onednn_is_faster.__wrapped__() is faster


def test_layers_of_another_library_are_converted_in_place() -> None:
    special = nn.modules.linear.NonDynamicallyQuantizableLinear(4, 4)
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), special)
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with_fast_linears(network)
    assert type(network[0]) is Linear
    assert type(network[2]) is type(special)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in state.items())
