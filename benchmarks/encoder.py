"""Frames per second of the frame encoder, in every form that runs on a CPU.

    python -m benchmarks.encoder

ViT-L/16 with random weights on frames of 224 x 224 pixels, one and eight at once. The limit is the encoder's
multiplications and additions, 123.1 GFLOP for each frame, at the rate at which the faster of PyTorch's libraries
computes the linear layers of one of its blocks, in the same process, dtype and number of threads. The alternatives run
in turn within one process, each measurement after a run that does not count; figures are medians of 5. "drift" is the
relative L2 error of the tokens against the module in fp32. bf16 is `encoder.bfloat16()` for the module and `vis4mer
export --precision bf16` for the exports; ONNX Runtime has no bf16 products on a CPU.

Writes results/encoder.json. Takes a quarter of an hour and 10 GB of memory on two cores.
"""

import argparse
import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': must be installed; run pip install '.[export]'")

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.benchmark import Benchmark, Result
from benchmarks.harness.progress import progress, show
from benchmarks.measure.graphs import export_graph
from benchmarks.measure.products import Product, run_products
from benchmarks.measure.timing import medians
from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import Array, on_host
from vis4mer.models.encoder import FrameEncoder
from vis4mer.runtime.backends.base import Runner
from vis4mer.runtime.manifest import Precision
from vis4mer_export.precision import DTYPES, in_precision

WAYS: dict[Precision, tuple[str, ...]] = {"fp32": ("torchscript", "pt2", "onnx"), "bf16": ("torchscript", "pt2")}


def flop_per_frame(encoder: FrameEncoder) -> int:
    """Counts the multiplications and additions of all matrix products and convolutions, those of attention included."""
    size = encoder.vit.patch_embed.img_size
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        copy.deepcopy(encoder).to("meta")(torch.empty(1, *size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops())


def block_products(encoder: FrameEncoder, frames: int) -> list[Product]:
    """Returns the linear layers of one block: queries, keys and values; output; and the two of the MLP."""
    block = next(encoder.vit.get_submodule("blocks").children())
    layers = [module for module in block.modules() if isinstance(module, torch.nn.Linear)]
    return [Product(frames * encoder.config.tokens, layer.in_features, layer.out_features) for layer in layers]


def eager(encoder: FrameEncoder, precision: Precision) -> Runner:
    """Returns the encoder as PyTorch runs the module: frames uint8 [N, H, W, 3] to tokens float32 [N, P, D]."""
    typed = copy.deepcopy(encoder).to(DTYPES[precision])

    @torch.inference_mode()
    def encode(frames: Array) -> Array:
        tokens: NDArray[np.float32] = typed(torch.from_numpy(frames)).numpy()
        return tokens

    return encode


def exported(encoder: FrameEncoder, format: str, precision: Precision, example: Tensor) -> Runner:
    """Returns the runner of the exported encoder."""
    return export_graph(in_precision(encoder, precision), format, example, precision)[0]


def measure(encoder: FrameEncoder, batches: Sequence[int], repeats: int = 5) -> list[dict[str, Any]]:
    """Returns a row for each precision, batch size and form of the encoder."""
    size = encoder.vit.patch_embed.img_size
    images = np.random.default_rng(0).integers(0, 256, (max(2, *batches), *size, 3), dtype=np.uint8)
    expected = eager(encoder, "fp32")(images[:1])
    flop = flop_per_frame(encoder)
    ways: dict[Precision, dict[str, Runner]] = {}
    for precision in progress(WAYS, lambda precision: f"exporting {precision}"):
        ways[precision] = {"eager": eager(encoder, precision)}
        for format in WAYS[precision]:
            ways[precision][format] = exported(encoder, format, precision, torch.from_numpy(images[:2]))
    rows = []
    cases = list(product(WAYS, batches))
    for precision, frames in progress(cases, lambda case: f"{case[0]}, batch {case[1]}", weight=lambda case: case[1]):
        seconds = _seconds(encoder, precision, ways[precision], images[:frames], repeats)
        limit = sum(each.flop for each in block_products(encoder, frames)) / seconds.pop("limit")
        for way, taken in seconds.items():
            row = {
                "way": way,
                "dtype": precision,
                "batch": frames,
                "threads": torch.get_num_threads(),
                "frames_per_second": frames / taken,
                "limit_frames_per_second": limit / flop,
                "share_of_limit": frames / taken * flop / limit,
                "drift": _relative_l2(ways[precision][way](images[:1]), expected),
            }
            rows.append(row)
            show(
                f"{way:<12} {precision}  batch {frames:<3} {row['frames_per_second']:8.2f} frames/s  "
                f"{row['share_of_limit']:5.0%} of {row['limit_frames_per_second']:.2f}  drift {row['drift']:.1e}"
            )
    return rows


def _seconds(
    encoder: FrameEncoder, precision: Precision, ways: Mapping[str, Runner], images: NDArray[np.uint8], repeats: int
) -> dict[str, float]:
    """Times every form of the encoder on the same frames, and the products of one block as ``limit``."""
    runs: dict[str, Callable[[], Any]] = {way: partial(encode, images) for way, encode in ways.items()}
    # The limit must not follow ONNX Runtime, which is last: its idle threads keep the cores busy for a while.
    limit = run_products(block_products(encoder, len(images)), DTYPES[precision])
    return medians({"eager": runs.pop("eager"), "limit": limit, **runs}, repeats, settled=True)


def _relative_l2(tokens: Array, expected: Array) -> float:
    return float(np.linalg.norm(on_host(tokens) - on_host(expected)) / np.linalg.norm(on_host(expected)))


def run(options: argparse.Namespace) -> Result:
    """Measures ViT-L/16, or with --tiny a small encoder."""
    name, preprocessing = "vit_large_patch16_224", Preprocessing()
    if options.tiny:
        name, preprocessing = "test_vit", Preprocessing(height=32, width=32)
    encoder = FrameEncoder.build(name, preprocessing, "random").eval().requires_grad_(False)
    gigaflop = flop_per_frame(encoder) / 1e9
    show(f"{torch.get_num_threads()} threads, {gigaflop:.1f} GFLOP per frame")
    return {"gigaflop_per_frame": gigaflop, "rows": measure(encoder, batches=(1, 8))}


BENCHMARK = Benchmark("encoder", __doc__, run)

if __name__ == "__main__":
    BENCHMARK.main()
