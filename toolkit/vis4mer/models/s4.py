"""One S4 layer: an SSM convolution per channel, then a position-wise linear layer that mixes the channels."""

import math
from functools import lru_cache

import torch
from einops import rearrange
from torch import Tensor, nn

from vis4mer.config import NodeSource
from vis4mer.models.hippo import legs_nplr
from vis4mer_kernels import ops, reference
from vis4mer_kernels.linear import Linear
from vis4mer_kernels.reference import FrequencyGrid, Recurrence, StateSpace

# Range of the step dt at initialisation, log-uniform over the channels (S4 paper, section D.2).
DT_MIN, DT_MAX = 1e-3, 1e-1

# Address, version and type of every tensor that a kernel was generated from.
_Fingerprint = list[tuple[int, int, torch.dtype]]


class SSMConv(nn.Module):
    """A causal convolution whose kernel is generated from a state space, with a skip: [B, H, L] to [B, H, L].

    Complex parameters are stored as real pairs [..., 2], so that they survive casting and safetensors. `C` is the
    paper's C~ (see `vis4mer_kernels.reference.StateSpace`) for the trained length. As in the published code, it is not
    corrected for other lengths.

    Args:
        channels: H.
        d_state: N, even.
        length: L at which the kernel is generated; shorter inputs use its first taps.
        nodes: Source of the roots of unity; see `vis4mer.config.DecoderConfig`.

    Attributes:
        omega: [L//2 + 1, 2], the published code's roots of unity; None where ``nodes="exact"``.
        z: [L//2 + 1, 2], its ``2 (1 - omega) / (1 + omega)``; None where ``nodes="exact"``.
    """

    omega: Tensor | None
    z: Tensor | None

    def __init__(self, channels: int, d_state: int, length: int, nodes: NodeSource = "exact") -> None:
        super().__init__()
        self.length = length
        self._cached_kernel: tuple[_Fingerprint, Tensor] | None = None
        nplr = legs_nplr(d_state)
        shape = (channels, d_state // 2)
        self.log_dt = nn.Parameter(torch.rand(channels) * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN))
        self.w = _complex_parameter(nplr.w)
        self.B = _complex_parameter(nplr.B.expand(shape))
        self.C = _complex_parameter(torch.randn(shape, dtype=torch.complex64))
        self.P = _complex_parameter(nplr.P.expand(shape))
        # HiPPO's low-rank term is P P^*, so Q starts as P; training moves the two apart.
        self.Q = _complex_parameter(nplr.P.expand(shape))
        self.D = nn.Parameter(torch.randn(channels))
        # Buffers rather than computed values, because a checkpoint brings them.
        stored = torch.zeros(length // 2 + 1, 2) if nodes == "stored" else None
        self.register_buffer("omega", stored)
        self.register_buffer("z", None if stored is None else stored.clone())

    def ssm_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters of A (w, P, Q), B and dt, which train at their own rate and without weight decay."""
        return [self.log_dt, self.w, self.B, self.P, self.Q]

    def state_space(self) -> StateSpace:
        """Returns the state space of every channel, in float32 at least."""
        complex_parameters = map(_as_complex, (self.w, self.B, self.C, self.P, self.Q))
        return StateSpace(_at_least_float32(self.log_dt), *complex_parameters)

    def frequency_grid(self) -> FrequencyGrid:
        """Returns the frequencies at which the kernel's generating function is evaluated.

        Stored roots reproduce two quirks of the published code: they are powers of a rounded root, and its inverse
        transform does not receive the length, so a kernel of odd length loses its last tap.
        """
        if self.omega is None or self.z is None:
            dtype = _at_least_float32(self.log_dt).dtype
            # Traced values are symbols, which must not enter a cache that outlives the trace.
            grid = reference.exact_grid if torch.compiler.is_compiling() else _cached_grid
            return grid(self.length, dtype, self.log_dt.device)
        # The stored z is already divided by 1 + omega. With beta = 1 the generating function keeps the published form,
        # and its rounding, instead of the one that is multiplied out.
        omega = _as_complex(self.omega)
        return FrequencyGrid(
            numerator=_as_complex(self.z),
            beta=torch.ones_like(omega.real),
            factor=2 / (1 + omega),
            taps=2 * (len(omega) - 1),
        )

    def ssm_kernel(self) -> Tensor:
        """Returns the SSM convolution kernel [H, taps] at the trained length, in float32 at least.

        Without gradients the kernel is generated once and reused until a parameter changes, since a movie has many
        windows. Changes made through ``.data`` go unnoticed: they bypass PyTorch's version counters.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._generate()
        fingerprint = self._fingerprint()
        if self._cached_kernel is None or self._cached_kernel[0] != fingerprint:
            # An inference tensor could not be used outside inference mode, where the cache is read as well.
            with torch.inference_mode(False), torch.no_grad():
                self._cached_kernel = fingerprint, self._generate()
        return self._cached_kernel[1]

    def _fingerprint(self) -> _Fingerprint:
        tensors = self.state_dict(keep_vars=True).values()
        # Tensors created in inference mode have no version counter.
        return [(t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype) for t in tensors]

    def _generate(self) -> Tensor:
        # Autocast would round products to half precision, an error that cancellation near the poles amplifies.
        with torch.autocast(self.log_dt.device.type, enabled=False):
            return ops.ssm_kernel(self.state_space(), self.frequency_grid())

    def recurrence(self) -> Recurrence:
        """Returns the same map as a recurrence, in double precision; exact for ``nodes="exact"`` only."""
        return reference.recurrence(self.state_space().double(), self.length)

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], L at most the trained length, causally along L and adds ``D u``."""
        return ops.long_conv(u, self.ssm_kernel(), self.D)


class S4(nn.Module):
    """Convolution, GELU, average pooling, channel dropout and a position-wise linear layer.

    The published code drops channels before it pools, and pools after the linear layer and the residual. Averaging
    commutes with all three; pooling first halves their work.

    Attributes:
        conv: Any causal map from [B, H, L] to [B, H, L]; an export replaces it with a fixed convolution.

    Reference: S4 paper, section 3.4; ViS4mer paper, section 3.2. Like ViS4mer's published code, it has no gate and
    nothing after the linear layer.
    """

    def __init__(self, channels: int, d_state: int, length: int, dropout: float, nodes: NodeSource = "exact") -> None:
        super().__init__()
        self.conv: nn.Module = SSMConv(channels, d_state, length, nodes)
        self.dropout = nn.Dropout1d(dropout)
        self.output = Linear(channels, channels)

    def forward(self, u: Tensor) -> Tensor:
        """Maps u [B, L, H] to [B, floor(L / 2), H]."""
        y = nn.functional.gelu(self.conv(rearrange(u, "b l h -> b h l")))
        pooled = halve(rearrange(y, "b h l -> b l h"))
        mixed: Tensor = self.output(drop_channels(self.dropout, pooled))
        return mixed


def halve(x: Tensor) -> Tensor:
    """Averages neighbouring tokens: [B, L, H] to [B, floor(L / 2), H]; an odd last token is dropped."""
    half = x.shape[1] // 2
    first, second = x[:, : 2 * half].unflatten(1, (half, 2)).unbind(2)  # type: ignore[no-untyped-call]
    mean: Tensor = (first + second) * 0.5  # several times as fast as mean(dim=2) on a CPU
    return mean


def drop_channels(dropout: nn.Dropout1d, x: Tensor) -> Tensor:
    """Zeroes random channels of x [B, L, H] over their whole length, independently for each sample."""
    if not dropout.training:
        return x
    kept: Tensor = dropout(rearrange(x, "b l h -> b h l"))
    return rearrange(kept, "b h l -> b l h")


@lru_cache(maxsize=64)
def _cached_grid(length: int, dtype: torch.dtype, device: torch.device) -> FrequencyGrid:
    # Training uses the same entries, and autograd cannot save inference tensors.
    with torch.inference_mode(False):
        return reference.exact_grid(length, dtype, device)


def _at_least_float32(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _complex_parameter(z: Tensor) -> nn.Parameter:
    """Complex [...] to a parameter of float32 pairs [..., 2]."""
    return nn.Parameter(torch.view_as_real(z.to(torch.complex64).resolve_conj()).contiguous())


def _as_complex(pairs: Tensor) -> Tensor:
    """Real pairs [..., 2] to complex [...], in complex64 at least."""
    return torch.view_as_complex(_at_least_float32(pairs).contiguous())
