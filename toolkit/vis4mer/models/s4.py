"""One S4 layer: an SSM convolution per channel, then a position-wise linear layer that mixes the channels."""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn

from vis4mer.config import Nodes
from vis4mer.models.hippo import legs_nplr
from vis4mer_kernels import ops, reference
from vis4mer_kernels.linear import Linear

# Range of the step dt at initialisation, log-uniform over the channels (S4 paper, section D.2).
DT_MIN, DT_MAX = 1e-3, 1e-1


@lru_cache(maxsize=64)
def _exact_nodes(length: int, dtype: torch.dtype, device: torch.device) -> reference.Nodes:
    with torch.inference_mode(False):  # cached for training too, whoever asks first
        return reference.exact_nodes(length, dtype, device)


def _real_pairs(z: Tensor) -> nn.Parameter:
    return nn.Parameter(torch.view_as_real(z.to(torch.complex64).resolve_conj()).contiguous())


def _complex(pairs: Tensor) -> Tensor:
    """[..., 2] to complex [...]; half-precision parameters are computed in float32."""
    return torch.view_as_complex(pairs.to(torch.promote_types(pairs.dtype, torch.float32)).contiguous())


class SSMConv(nn.Module):
    """A long convolution whose kernel is generated from a state space, with a skip: [B, H, L] to [B, H, L].

    Complex parameters are stored as real pairs [..., 2], so that they survive casting and safetensors. `C` is the
    paper's C~ (`vis4mer_kernels.reference.ssm_kernel`), as in the published code, which never corrects
    it for other lengths.

    Args:
        channels: H.
        d_state: N, even.
        length: L, at which the kernel is generated; shorter inputs use its first taps.
        nodes: ``exact`` or ``stored``, see `vis4mer.config.DecoderConfig`.
    """

    def __init__(self, channels: int, d_state: int, length: int, nodes: Nodes = "exact") -> None:
        super().__init__()
        self.length = length
        self._kept: tuple[list[tuple[int, int, torch.dtype]], Tensor] | None = None
        nplr = legs_nplr(d_state)
        shape = (channels, d_state // 2)
        self.log_dt = nn.Parameter(torch.rand(channels) * math.log(DT_MAX / DT_MIN) + math.log(DT_MIN))
        self.w = _real_pairs(nplr.w)
        self.B = _real_pairs(nplr.B.expand(shape))
        self.C = _real_pairs(torch.randn(shape, dtype=torch.complex64))
        self.P = _real_pairs(nplr.P.expand(shape))
        self.Q = _real_pairs(nplr.P.expand(shape))
        self.D = nn.Parameter(torch.randn(channels))
        self.omega: Tensor | None
        self.z: Tensor | None
        stored = torch.zeros(length // 2 + 1, 2) if nodes == "stored" else None
        self.register_buffer("omega", stored)
        self.register_buffer("z", None if stored is None else stored.clone())

    def ssm_parameters(self) -> list[nn.Parameter]:
        """The parameters of A (w, P, Q), B and dt, which train at their own rate and without weight decay."""
        return [self.log_dt, self.w, self.B, self.P, self.Q]

    def _state_space(self) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
        log_dt = self.log_dt.to(torch.promote_types(self.log_dt.dtype, torch.float32))
        return log_dt, _complex(self.w), _complex(self.B), _complex(self.C), _complex(self.P), _complex(self.Q)

    def nodes(self) -> reference.Nodes:
        """The nodes at which this layer's generating function is evaluated.

        Stored nodes reproduce the published code: powers of a rounded root, and an inverse transform that is not told
        the length, so an odd one loses its last tap.
        """
        if self.omega is None or self.z is None:
            dtype = torch.promote_types(self.log_dt.dtype, torch.float32)
            # What tracing computes is not a number, and must not be kept.
            nodes = reference.exact_nodes if torch.compiler.is_compiling() else _exact_nodes
            return nodes(self.length, dtype, self.log_dt.device)
        omega = _complex(self.omega)
        beta = torch.ones_like(omega.real)
        return reference.Nodes(_complex(self.z), beta, 2 / (1 + omega), 2 * (len(omega) - 1))

    def kernel(self) -> Tensor:
        """The SSM convolution kernel [H, taps] at the trained length, in float32 at least.

        Without gradients it is generated once and kept until a parameter changes: a movie has many windows. Changes
        written through ``.data`` go unnoticed, as everywhere in PyTorch.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return self._generate()
        tensors = self.state_dict(keep_vars=True).values()
        # Tensors made in inference mode have no version: they are never trained.
        version = [(t.data_ptr(), 0 if t.is_inference() else t._version, t.dtype) for t in tensors]
        if self._kept is None or self._kept[0] != version:
            with torch.inference_mode(False), torch.no_grad():
                self._kept = version, self._generate()
        return self._kept[1]

    def _generate(self) -> Tensor:
        with torch.autocast(self.log_dt.device.type, enabled=False):
            return ops.ssm_kernel(*self._state_space(), self.nodes())

    def recurrence(self) -> reference.Recurrence:
        """The same map as a recurrence, in double precision; exact for ``nodes="exact"`` only."""
        log_dt, *parameters = self._state_space()
        w, B, C, P, Q = (parameter.to(torch.complex128) for parameter in parameters)
        return reference.recurrence(log_dt.double(), w, B, C, P, Q, self.length)

    def forward(self, u: Tensor) -> Tensor:
        """Convolves u [B, H, L], L at most the trained length, causally along L and adds ``D u``."""
        return ops.long_conv(u, self.kernel(), self.D)


def halve(x: Tensor) -> Tensor:
    """Averages neighbouring tokens: [B, L, H] to [B, floor(L / 2), H]; an odd last token is dropped."""
    half = x.shape[1] // 2
    first, second = x[:, : 2 * half].unflatten(1, (half, 2)).unbind(2)  # type: ignore[no-untyped-call]
    mean: Tensor = (first + second) * 0.5  # several times as fast as mean(dim=2) on a CPU
    return mean


class S4(nn.Module):
    """Convolution, GELU, average pooling, channel dropout and a position-wise linear layer.

    The published code drops channels before it pools, and pools after the linear layer and the residual. Averaging
    commutes with all three; coming first, it halves their work.

    Attributes:
        conv: any causal [B, H, L] to [B, H, L] map; an export puts a fixed convolution in its place.

    Reference: S4 paper, section 3.4; ViS4mer paper, section 3.2. No gate and nothing after the linear layer, as in
    ViS4mer's published code.
    """

    def __init__(self, channels: int, d_state: int, length: int, dropout: float, nodes: Nodes = "exact") -> None:
        super().__init__()
        self.conv: nn.Module = SSMConv(channels, d_state, length, nodes)
        self.dropout = nn.Dropout1d(dropout)
        self.output = Linear(channels, channels)

    def forward(self, u: Tensor) -> Tensor:
        """Maps u [B, L, H] to [B, floor(L / 2), H]."""
        y = halve(nn.functional.gelu(self.conv(u.transpose(1, 2))).transpose(1, 2))
        mixed: Tensor = self.output(self.dropout(y.transpose(1, 2)).transpose(1, 2))
        return mixed
