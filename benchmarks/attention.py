"""Time and peak memory of S4 and of self-attention in the same multi-scale decoder, up to the paper's 60 s.

    python -m benchmarks.attention [--device cuda]

Three blocks from d = 1024, B = 1, L of 5 to 60 frames of 197 tokens. Attention has 4 heads in every block, because few
heads keep its score matrices small. "softmax" computes the scores with separate operators; "fused" is PyTorch's
scaled_dot_product_attention. A step is forward in training mode and backward, without the optimiser. Inference keeps
S4's convolution kernels; every step generates them again. fp32, on a GPU also bf16 autocast. On a CPU, the library that
PyTorch chooses computes every matrix product of both. The alternatives run in turn within one process; figures are
medians of 5. Peak memory is what a call holds at once beyond parameters and features, measured in a process of its own.
A row that would need more memory than is free is left out with a message. Takes ten minutes and 8 GB of memory on two
cores.

Writes results/attention.json; on a GPU, the file name includes the GPU's name.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product
from typing import Any, Literal, NamedTuple, get_args

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[train]'")

from benchmarks.baselines.attention import HEADS, AttentionDecoder
from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.calls import DTYPES, by_pytorch, forward, impls, step
from benchmarks.measure.devices import device_of, waiting
from benchmarks.measure.memory import free_bytes, peak_bytes
from benchmarks.measure.timing import medians
from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder

Mixer = Literal["S4", "softmax", "fused"]
CALLS = {"step": step, "inference": forward}
TOKENS = 197  # in a frame of ViT-L/16
FRAMES = (5, 10, 20, 40, 60)
WIDTH = 1024
TINY_LENGTHS, TINY_WIDTH = (98, 394), 64
PUBLISHED = {"seconds": 2.63, "peak_bytes": 8.0}  # ratios to S4; ViS4mer paper, abstract


class Case(NamedTuple):
    """One comparison of the mixers.

    Attributes:
        length: L, in tokens.
        dtype: Key of `DTYPES`.
        call: Key of `CALLS`.
    """

    length: int
    dtype: str
    call: str

    def __str__(self) -> str:
        return f"L={self.length} {self.call} {self.dtype}"


def prepare(mixer: Mixer, case: Case, width: int, device: str) -> Callable[[], object]:
    """Returns a call of a new decoder on one random sequence [1, L, width]."""
    torch.manual_seed(0)
    config = DecoderConfig(d_input=width, l_max=case.length, d_output=10, d_model=width, n_layers=3)
    decoder = S4Decoder(config) if mixer == "S4" else AttentionDecoder(config, mixer)
    features = torch.randn(1, case.length, width, device=device)
    run = partial(CALLS[case.call], decoder.to(device), features, DTYPES[case.dtype])
    return by_pytorch(run) if device == "cpu" else waiting(run, device_of(device))


def softmax_bytes(case: Case) -> int:
    """Returns a lower bound on the memory of unfused attention: scores and weights, in a step also a gradient."""
    matrix = DTYPES[case.dtype].itemsize * HEADS * case.length**2
    return matrix * (3 if case.call == "step" else 2)


def measure(
    lengths: Sequence[int], width: int, dtypes: Sequence[str], device: str, repeats: int = 5
) -> list[dict[str, Any]]:
    """Returns a row for each length, dtype, call and mixer."""
    cases = [Case(*values) for values in product(lengths, dtypes, CALLS)]
    rows = []
    for case in progress(cases, weight=lambda case: case.length**2):
        rows += _compare(case, width, device, repeats)
    return rows


def _compare(case: Case, width: int, device: str, repeats: int) -> list[dict[str, Any]]:
    mixers: tuple[Mixer, ...] = get_args(Mixer)
    needed, free = softmax_bytes(case), free_bytes(device)
    if needed > free:
        show(f"{case} softmax: left out, because it needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free")
        mixers = ("S4", "fused")
    seconds = medians({mixer: prepare(mixer, case, width, device) for mixer in mixers}, repeats)
    peak = {mixer: peak_bytes(prepare, mixer, case, width, device, device=device) for mixer in mixers}
    rows = []
    for mixer in mixers:
        row: dict[str, Any] = {
            "call": case.call,
            "mixer": mixer,
            "L": case.length,
            "D": width,
            "dtype": case.dtype,
            "device": device,
            "threads": torch.get_num_threads(),
            "repeats": repeats,
            "seconds": seconds[mixer],
            "times_s4_seconds": seconds[mixer] / seconds["S4"],
            "peak_bytes": peak[mixer],
            "times_s4_bytes": peak[mixer] / peak["S4"],
        }
        time = f"{1e3 * row['seconds']:9.1f} ms {row['times_s4_seconds']:7.2f}x"
        memory = f"{row['peak_bytes'] / 1e6:9.1f} MB {row['times_s4_bytes']:7.2f}x"
        show(f"{case.call:<10} {case.dtype} L={case.length:<6} {mixer:<8} {time} {memory}")
        rows.append(row)
    return rows


def run(options: argparse.Namespace) -> Result:
    """Measures all cases on the chosen device."""
    dtypes = ("fp32",) if options.device == "cpu" else ("fp32", "bf16")
    lengths, width = (TINY_LENGTHS, TINY_WIDTH) if options.tiny else ([TOKENS * n for n in FRAMES], WIDTH)
    ops = impls(options.device)[-1]
    show(f"S4 with {ops} ops, {torch.get_num_threads()} threads")
    return {"ops": ops, "published": PUBLISHED, "rows": measure(lengths, width, dtypes, options.device)}


BENCHMARK = Benchmark("attention", __doc__, run, on_gpu=True)

if __name__ == "__main__":
    BENCHMARK.main()
