"""Frames a second of the frame encoder on every way that runs it on this machine's CPU.

    python benchmarks/encoder.py

ViT-L/16 with random weights on frames of 224 x 224 pixels, one and eight at once. The limit is the encoder's
multiplications and additions, 123.1 GFLOP a frame, at the rate at which the faster one of the libraries that PyTorch
carries computes the linear layers of one of its blocks, in the same process, dtype and number of threads. What is
compared runs in turn in one process, each measurement after a run that does not count; medians of 5. "drift" is the
relative L2 error of the tokens against the module in fp32. bf16 is `encoder.bfloat16()` for the module and `vis4mer
export --precision bf16` for the exports; ONNX Runtime has no bf16 products on a CPU.

Writes results/encoder.json. Takes a quarter of an hour and 10 GB of memory on two cores.
"""

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

try:
    import torch
except ImportError:
    sys.exit("error: package='torch': is needed; pip install '.[export]'")

import numpy as np
from limits import Product, run_products
from measure import machine, medians, save
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vis4mer.config import Preprocessing
from vis4mer.devices.device import CPU
from vis4mer.models.encoder import FrameEncoder
from vis4mer.runtime.backends.registry import graph_runner
from vis4mer.runtime.bundle import Format, Precision
from vis4mer_export.precision import DTYPES, in_precision
from vis4mer_export.targets import onnx, pt2, torchscript

Encode = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
WAYS: dict[Precision, tuple[Format, ...]] = {"fp32": ("torchscript", "pt2", "onnx"), "bf16": ("torchscript", "pt2")}


def flop_per_frame(encoder: FrameEncoder) -> int:
    """Multiplications and additions of all matrix products and convolutions, attention's included."""
    size = encoder.vit.patch_embed.img_size
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        copy.deepcopy(encoder).to("meta")(torch.empty(1, *size, 3, dtype=torch.uint8))
    return int(counter.get_total_flops())


def block_products(encoder: FrameEncoder, frames: int) -> list[Product]:
    """The linear layers of one block: queries, keys and values; output; and the two of the MLP."""
    layers = [module for module in encoder.vit.blocks[0].modules() if isinstance(module, torch.nn.Linear)]
    return [Product(frames * encoder.config.tokens, layer.in_features, layer.out_features) for layer in layers]


def eager(encoder: FrameEncoder, precision: Precision) -> Encode:
    """The module as PyTorch runs it."""
    typed = copy.deepcopy(encoder).to(DTYPES[precision])

    @torch.inference_mode()
    def encode(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        tokens: NDArray[np.float32] = typed(torch.from_numpy(frames)).numpy()
        return tokens

    return encode


def exported(encoder: FrameEncoder, target: Format, precision: Precision, example: Tensor) -> Encode:
    """The encoder as a bundle serves it."""
    typed = in_precision(encoder, precision)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"encoder.{target}"
        if target == "onnx":
            onnx.export_graph(typed, example, path, "frames", "tokens")
            return onnx.cpu_runner(path, "encoder")
        (torchscript if target == "torchscript" else pt2).export_graph(typed, example, path)
        return graph_runner(target, path.read_bytes(), "encoder", CPU)


def measure(encoder: FrameEncoder, batches: Sequence[int], repeats: int = 5) -> list[dict[str, Any]]:
    """A row for each precision, way and batch size."""
    size = encoder.vit.patch_embed.img_size
    images = np.random.default_rng(0).integers(0, 256, (max(2, *batches), *size, 3), dtype=np.uint8)
    expected = eager(encoder, "fp32")(images[:1])
    flop = flop_per_frame(encoder)
    rows = []
    for precision, targets in WAYS.items():
        ways = {"eager": eager(encoder, precision)}
        for target in targets:
            ways[target] = exported(encoder, target, precision, torch.from_numpy(images[:2]))
        for frames in batches:
            products = block_products(encoder, frames)
            runs: dict[str, Callable[[], Any]] = {way: partial(encode, images[:frames]) for way, encode in ways.items()}
            # Not after ONNX Runtime, which is last: its threads keep the cores busy for a while when there is no work.
            runs = {"eager": runs.pop("eager"), "limit": run_products(products, DTYPES[precision]), **runs}
            seconds = medians(runs, repeats, settled=True)
            rate = sum(product.flop for product in products) / seconds.pop("limit")
            for way, taken in seconds.items():
                row = {
                    "way": way,
                    "dtype": precision,
                    "batch": frames,
                    "threads": torch.get_num_threads(),
                    "frames_per_second": frames / taken,
                    "limit_frames_per_second": rate / flop,
                    "share_of_limit": frames / taken * flop / rate,
                    "drift": float(np.linalg.norm(ways[way](images[:1]) - expected) / np.linalg.norm(expected)),
                }
                rows.append(row)
                print(
                    f"{way:<12} {precision}  batch {frames:<3} {row['frames_per_second']:8.2f} frames/s  "
                    f"{row['share_of_limit']:5.0%} of {row['limit_frames_per_second']:.2f}  drift {row['drift']:.1e}",
                    flush=True,
                )
    return rows


def main() -> None:
    """Exports, measures and prints the table."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    encoder = FrameEncoder.build("vit_large_patch16_224", Preprocessing(), "random").eval().requires_grad_(False)
    gigaflop = flop_per_frame(encoder) / 1e9
    print(f"{torch.get_num_threads()} threads, {gigaflop:.1f} GFLOP a frame")
    rows = measure(encoder, batches=(1, 8))
    versions = {name: version(name) for name in ("torch", "onnxruntime-gpu")}
    result = {"description": __doc__, "machine": machine(**versions), "gigaflop_per_frame": gigaflop}
    save("encoder", {**result, "rows": rows})


if __name__ == "__main__":
    main()
