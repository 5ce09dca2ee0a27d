"""Which stage bounds classification on a GPU, by a model: nothing of this was measured on a GPU.

    python -m benchmarks.flight

The paper's model (ViT-L/16, S4 decoder, a window of 60 s every second) on films of 24 frames/s, of which one frame per
second is sampled. Each stage has a number of seconds of film that it can process per second:

- readers: `--jobs` movies, each of which decodes, copies and resizes one frame after another;
- NVDEC: all engines of the GPU, each with one movie at a time;
- host: the processor's cores, which resize if frames leave the GPU;
- bus: copies of frames to the host and back;
- GPU: resizing, encoder and S4 decoder, one after another on the one stream.

Stages overlap, so the slowest one bounds the throughput. "host" is the former way: frames are resized on the host.
"device" is the present one: they stay in the GPU's memory. Sources and assumptions are in the result; the share of
packets that planned decoding sends to the video decoder is the one that `python -m benchmarks.video` measured.

Writes results/flight.json.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from benchmarks.harness.benchmark import RESULTS, Benchmark, Result

FRAME_RATE = 24  # frames/s of the film; one of them is sampled
GOP, B_FRAMES = 48, 3  # of the row of results/video.json
ENCODER_FLOP = 123e9  # ViT-L/16 at 224 x 224, per frame
HEAD_FLOP = 35e9  # products of the S4 decoder, per window of 11820 tokens
# Long convolution of the first block on an H100, per window: 2.2 ms for 16 windows by its memory traffic. The second
# block has half the channels and half the length, so a quarter of the traffic; the third a sixteenth.
CONVOLUTION_SECONDS = 2.2e-3 / 16 * (1 + 1 / 4 + 1 / 16)
ENCODED_BYTES = 224 * 224 * 3
CORES = 16
EFFICIENCY = 0.6  # of peak arithmetic and bandwidth
JOBS = (1, 4, 8)
WAYS = ("host", "device")


@dataclass(frozen=True)
class Gpu:
    """Data-sheet figures of a GPU.

    Attributes:
        engines: Number of NVDEC engines.
        flops: Dense bf16 operations per second, with float32 accumulation.
        memory: Bytes per second of its memory.
        bus: Bytes per second of its bus, in one direction.
    """

    engines: int
    flops: float
    memory: float
    bus: float


@dataclass(frozen=True)
class Size:
    """A size of picture.

    Attributes:
        pixels: Pixels of a frame.
        decoded: Frames per second that one NVDEC engine decodes.
        resize: Seconds that a core takes to resize a frame.
    """

    pixels: int
    decoded: float
    resize: float


GPUS = {"H100 SXM": Gpu(7, 989e12, 3.35e12, 64e9), "RTX 4090": Gpu(1, 165e12, 1.01e12, 32e9)}
SIZES = {"1080p": Size(1920 * 1080, 1000, 5.0e-3), "4K": Size(3840 * 2160, 250, 18.7e-3)}
SOURCES = {
    "NVDEC engines": "NVIDIA, Video Encode and Decode GPU Support Matrix",
    "peak arithmetic, memory and bus": "NVIDIA, H100 data sheet (SXM) and Ada GPU architecture white paper (RTX 4090)",
    "NVDEC speed": "assumed: 1,000 frames/s of H.264 at 1080p per engine, a quarter at 4K",
    "resizing on the host": "measured on one core of an AMD EPYC: 5.0 ms for 1080p, 18.7 ms for 4K",
    "encoder, S4 decoder": "computed: operations and bytes at 60 % of the peak",
}


def stage_rates(gpu: Gpu, size: Size, way: str, jobs: int, frames_per_sample: float) -> dict[str, float]:
    """Returns the seconds of film per second that each stage can process."""
    decode = frames_per_sample / size.decoded
    picture = size.pixels * 3  # bytes
    if way == "host":
        copy, resize = (picture + ENCODED_BYTES) / (gpu.bus * EFFICIENCY), size.resize
        gpu_resize = 0.0
    else:
        copy = resize = 0.0
        gpu_resize = picture / (gpu.memory * EFFICIENCY)
    convolution = CONVOLUTION_SECONDS * GPUS["H100 SXM"].memory / gpu.memory
    compute = gpu_resize + (ENCODER_FLOP + HEAD_FLOP) / (gpu.flops * EFFICIENCY) + convolution
    rates = {"readers": jobs / (decode + copy + resize), "NVDEC": gpu.engines / decode, "GPU": 1 / compute}
    return rates | ({"host": CORES / resize, "bus": 1 / copy} if way == "host" else {})


def model_row(name: str, size: str, way: str, jobs: int, frames_per_sample: float) -> dict[str, Any]:
    """Returns the row of a GPU, a size, a way and a number of jobs."""
    rates = stage_rates(GPUS[name], SIZES[size], way, jobs, frames_per_sample)
    bound = min(rates, key=lambda stage: rates[stage])
    return {
        "gpu": name,
        "movie": size,
        "resized_on": way,
        "jobs": jobs,
        "film_seconds_per_second": round(rates[bound], 1),
        "bound": bound,
        "gpu_busy": round(rates[bound] / rates["GPU"], 3),
        "stages": {stage: round(rate, 1) for stage, rate in rates.items()},
    }


def sampled_share(result: Mapping[str, Any]) -> float:
    """Returns the frames that are decoded for each sample, from a result of `benchmarks.video`."""
    (row,) = (row for row in result["rows"] if (row["gop"], row["b_frames"]) == (GOP, B_FRAMES))
    return FRAME_RATE * float(row["packets_sent"] / row["packets"])


def measure(options: argparse.Namespace) -> Result:
    """Computes the table and prints it; ``--tiny`` changes nothing, since this takes no time."""
    frames_per_sample = sampled_share(json.loads((RESULTS / "video.json").read_text("utf-8")))
    print("A model, not a measurement. Seconds of film per second:")
    rows = []
    for name, size, way, jobs in product(GPUS, SIZES, WAYS, JOBS):
        row = model_row(name, size, way, jobs, frames_per_sample)
        rows.append(row)
        speed, busy = row["film_seconds_per_second"], row["gpu_busy"]
        print(f"{name:<9} {size:<6} {way:<7} jobs {jobs}: {speed:8.1f}, bound by {row['bound']:<8} GPU busy {busy:.0%}")
    return {"model": True, "frames_per_sample": frames_per_sample, "sources": SOURCES, "rows": rows}


BENCHMARK = Benchmark("flight", __doc__, measure)

if __name__ == "__main__":
    BENCHMARK.main()
