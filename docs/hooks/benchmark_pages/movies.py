"""Pages about movies: the whole pipeline, and planned decoding."""

from benchmark_pages.charts import Bar, bars
from benchmark_pages.page import Benchmark, Result, table

_STAGES = ("decode", "resize", "encode", "S4 decode")


def _pipeline(result: Result) -> str:
    drawn = [
        Bar(
            f"{row['movie']}, {row['way']}, {row['precision']}",
            row["movie_seconds_per_second"],
            f"{row['movie_seconds_per_second']:.2f} s/s",
            row["way"] in ("checkpoint", "bundle"),
        )
        for row in result["rows"]
    ]
    cells = [
        (
            row["movie"],
            row["way"],
            row["precision"],
            f"{row['movie_seconds_per_second']:.2f}",
            f"{row['faster']:.1f}",
            *(f"{row['stages'][stage]:.2f}" if row["stages"] else "" for stage in _STAGES),
        )
        for row in result["rows"]
    ]
    header = ("movie", "", "precision", "movie seconds per second", "× faster", *(f"{stage}, s" for stage in _STAGES))
    memory = [(f"{row['minutes']} minutes", f"{row['peak_megabytes']:.0f}") for row in result["memory"]]
    return f"""{bars("Seconds of movie classified per second, higher is better", drawn)}
{table(header, cells)}
The encoder takes nearly all of the time. Stages have separate times only where they run in turn.

## Memory

Memory hardly grows with the movie: {result["memory_ratio"]:.2f} times as much for thirty times the length. It is
measured with the sample bundle, 360p at 24 frames/s, a window every second.

{table(("movie", "peak memory, MB"), memory)}"""


PIPELINE = Benchmark(
    name="pipeline",
    title="From file to prediction",
    question="How many seconds of movie are classified per second, and in how much memory?",
    command="python -m benchmarks.pipeline",
    method="""The paper's model with random weights (ViT-L/16, S4 decoder over windows of 60 s) on movies of 63 s, which
is four windows at a stride of 1 s. Three ways are compared:

- *straightforward* does what the published scripts do: it decodes every frame, encodes one frame at a time in fp32 and
  generates the convolution kernels for each window;
- *checkpoint* is `vis4mer run --bundle CHECKPOINT`;
- *bundle* is the same with an export by `vis4mer export --format pt2 --precision bf16`.

"In turn" runs one stage after the other; the rows without it are the commands as they are, with the video decoder
working ahead of the encoder.""",
    show=_pipeline,
)


def _video(result: Result) -> str:
    drawn = [
        Bar(
            f"GOP of {row['gop']}, {row['b_frames']} B-frames",
            row["decoding"]["wall"],
            f"{row['decoding']['wall']:.1f} ×",
            True,
        )
        for row in result["rows"]
    ]
    cells = [
        (
            str(row["gop"]),
            str(row["b_frames"]),
            f"{row['packets_sent']:,} of {row['packets']:,}",
            f"{row['decoding']['wall']:.2f}",
            f"{row['reading']['wall']:.2f}",
        )
        for row in result["rows"]
    ]
    return f"""{bars("Decoding, times faster than decoding everything", drawn)}
{table(("GOP", "B-frames", "packets sent", "decoding, × faster", "reading, × faster"), cells)}
Without B-frames, the ratio is bounded by the GOP: in a GOP of 48 frames, the second wanted frame needs the first 25.
"""


VIDEO = Benchmark(
    name="video",
    title="Planned decoding",
    question="What does decoding only the necessary packets save?",
    command="python -m benchmarks.video",
    method="""One frame per second is sampled from 90 s of H.264 at 640 × 360 and 24 frames/s. The GOP length and the
number of B-frames vary. [Planned decoding](../how-it-works/decoding.md) and decoding everything yield the same pixels;
they differ in the packets that the video decoder receives. *Decoding* opens, indexes, demuxes and decodes; *reading*
also converts to RGB and resizes to 224 × 224, which costs both the same. Each ratio is the median over pairs of
runs. The command was run on two CPU cores.""",
    show=_video,
)


def _flight(result: Result) -> str:
    drawn = [
        Bar(
            f"{row['gpu']}, {row['movie']}, resized on the {row['resized_on']}, {row['jobs']} in flight",
            row["film_seconds_per_second"],
            f"{row['film_seconds_per_second']:.0f} s/s, bound by {row['bound']}",
            row["resized_on"] == "device",
        )
        for row in result["rows"]
        if row["gpu"].startswith("H100")
    ]
    stages = ("readers", "NVDEC", "host", "bus", "GPU")
    cells = [
        (
            row["gpu"],
            row["movie"],
            row["resized_on"],
            str(row["jobs"]),
            *(f"{row['stages'][stage]:.0f}" if stage in row["stages"] else "" for stage in stages),
            row["bound"],
            f"{row['gpu_busy']:.0%}",
        )
        for row in result["rows"]
    ]
    header = ("GPU", "film", "resized on", "in flight", *stages, "bound by", "GPU busy")
    sources = "\n".join(f"- {what}: {source}" for what, source in result["sources"].items())
    return f"""{bars("Modelled seconds of film per second on an H100, higher is better", drawn)}
{table(header, cells)}
Columns named after a stage state how many seconds of film per second it can process; the slowest bounds the whole. One
movie keeps one NVDEC engine busy, so with one in flight its reader is the bound. With as many in flight as there are
engines, NVDEC is, and the encoder waits for it.

Of the 24 frames of a second, {result["frames_per_sample"]:.0f} are decoded for each sample.

{sources}
"""


FLIGHT = Benchmark(
    name="flight",
    title="Several movies on a GPU: a model",
    question="Which stage would bound classification on a GPU, by a model?",
    command="python -m benchmarks.flight",
    method="""**This is a model, not a measurement.** It computes which stage bounds the throughput on an H100 and on an
RTX 4090 from data sheets, assumptions and stage times that are listed below the table. The machine in the table only
did the arithmetic. *Resized on the host* is the former way, in which frames left the GPU to be resized; *on the device*
is the present one. *In flight* is the number of movies that are decoded at once, `--jobs`.""",
    show=_flight,
)
