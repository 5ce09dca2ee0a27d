"""S4 against self-attention: the same multi-scale decoder with either, as its sequence grows to the paper's 60 s.

    python benchmarks/attention.py [--device cuda]

Three blocks from d = 1024, B = 1, L of 5 to 60 frames of 197 tokens. Attention has 4 heads in every block: few heads
keep its score matrices small. "softmax" writes the scores out; "fused" is PyTorch's scaled_dot_product_attention. A
step is forward in training mode and backward, without the optimiser's part; inference keeps S4's convolution kernels,
and a step generates them anew. fp32, on a GPU also bf16 autocast; on a CPU every product of either is computed by the
library that PyTorch chooses. What is compared runs in turn in one process; medians of 5. Peak memory is what a call
holds at once beyond parameters and features, in a process of its own. A row that would need more memory than is free is
left out, and says so. Takes ten minutes and 8 GB of memory on two cores.

Writes results/attention.json and attention.png, with the GPU's name between for a GPU.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, get_args

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[train]'")

from attention_plot import draw
from baselines.attention import HEADS, AttentionDecoder
from calls import DTYPES, by_pytorch, forward, impls, step
from measure import RESULTS, machine, medians, save
from memory import free_bytes, peak_bytes

from vis4mer.config import DecoderConfig
from vis4mer.models.decoder import S4Decoder

Mixer = Literal["S4", "softmax", "fused"]
CALLS = {"step": step, "inference": forward}
TOKENS = 197  # of a ViT-L/16 frame
FRAMES = (5, 10, 20, 40, 60)
PUBLISHED = {"seconds": 2.63, "peak_bytes": 8.0}  # times that of S4, ViS4mer paper, abstract


def prepare(mixer: Mixer, call: str, length: int, width: int, dtype: str, device: str) -> Callable[[], object]:
    """A call of a new decoder on one sequence."""
    torch.manual_seed(0)
    config = DecoderConfig(d_input=width, l_max=length, d_output=10, d_model=width, n_layers=3)
    decoder = S4Decoder(config) if mixer == "S4" else AttentionDecoder(config, mixer)
    features = torch.randn(1, length, width, device=device)
    run = partial(CALLS[call], decoder.to(device), features, DTYPES[dtype])
    if device == "cpu":
        return by_pytorch(run)

    def synchronised() -> None:
        run()
        torch.cuda.synchronize()

    return synchronised


def softmax_bytes(call: str, length: int, dtype: str) -> int:
    """At least what the written-out attention holds: scores and weights, going back a gradient more."""
    matrix = DTYPES[dtype].itemsize * HEADS * length**2
    return matrix * (3 if call == "step" else 2)


def measure(
    lengths: Sequence[int], width: int, dtypes: Sequence[str], device: str, repeats: int = 5
) -> list[dict[str, Any]]:
    """A row for each length, dtype, call and mixer."""
    return [
        row
        for length in lengths
        for dtype in dtypes
        for call in CALLS
        for row in _compare(call, length, width, dtype, device, repeats)
    ]


def _compare(call: str, length: int, width: int, dtype: str, device: str, repeats: int) -> list[dict[str, Any]]:
    mixers: tuple[Mixer, ...] = get_args(Mixer)
    if softmax_bytes(call, length, dtype) > free_bytes(device):
        needed, free = softmax_bytes(call, length, dtype) / 1e9, free_bytes(device) / 1e9
        print(f"L={length} {call} {dtype} softmax: left out, it needs {needed:.1f} GB and {free:.1f} GB are free")
        mixers = ("S4", "fused")
    seconds = medians({mixer: prepare(mixer, call, length, width, dtype, device) for mixer in mixers}, repeats)
    peak = {mixer: peak_bytes(prepare, mixer, call, length, width, dtype, device, device=device) for mixer in mixers}
    rows = []
    for mixer in mixers:
        row = {
            "call": call,
            "mixer": mixer,
            "L": length,
            "D": width,
            "dtype": dtype,
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
        print(f"{call:<10} {dtype} L={length:<6} {mixer:<8} {time} {memory}", flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Measures, prints the table and draws the plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    device = parser.parse_args().device
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: device='cuda': PyTorch finds no GPU; use --device cpu")
    dtypes = ("fp32",) if device == "cpu" else ("fp32", "bf16")
    ops = impls(device)[-1]
    print(f"S4 by {ops} ops, {torch.get_num_threads()} threads")
    rows = measure([TOKENS * n for n in FRAMES], 1024, dtypes, device)
    gpu = {} if device == "cpu" else {"gpu": torch.cuda.get_device_name()}
    name = "-".join(["attention", *gpu.values()]).replace(" ", "-").lower()
    facts = {"machine": machine(torch=torch.__version__, **gpu), "ops": ops, "published": PUBLISHED}
    save(name, {"description": __doc__, **facts, "rows": rows})
    draw([row for row in rows if row["dtype"] == dtypes[-1]], PUBLISHED, RESULTS / f"{name}.png")


if __name__ == "__main__":
    main()
