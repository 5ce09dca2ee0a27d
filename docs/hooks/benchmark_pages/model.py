"""Pages about the model's parts: encoder, S4 decoder, attention, exported heads, lowerings, and the exported model."""

from benchmark_pages.charts import Axis, Bar, Line, bars, legend, lines, panels
from benchmark_pages.page import Benchmark, Result, table

_WAYS = {
    "limit": "limit: its bare matrix products",
    "torch.mm": "the same products with `torch.mm`",
    "native": "this project, native ops",
    "reference": "this project, PyTorch's operators",
    "onnx": "exported, ONNX",
    "torchscript": "exported, TorchScript",
    "pt2": "exported, pt2",
    "eager": "PyTorch",
    "straightforward": "straightforward formulation",
}
_OURS = ("native", "onnx", "torchscript", "pt2")
_TOKENS = {1000: "1k", 3000: "3k", 10000: "10k", 30000: "30k", 100000: "100k"}


def _bar_label(row: Result) -> str:
    return f"{_WAYS[row['way']]}, {row['dtype']}".replace("`", "")


def _decoder(result: Result) -> str:
    parts = []
    for call, title in (("forward", "Forward pass"), ("step", "Training step")):
        rows = [row for row in result["rows"] if row["call"] == call]
        drawn = [
            Bar(_bar_label(row), row["seconds"], f"{row['seconds']:.3f} s", row["way"] in _OURS)
            for row in rows
            if row["way"] not in ("torch.mm", "straightforward")
        ]
        parts.append(f"## {title}\n\n{bars(f'Seconds per {title.lower()}, lower is better', drawn)}\n")
        parts.append(
            table(
                ("", "dtype", "seconds", "× the limit", "× faster than straightforward", "peak memory, MB"),
                [
                    (
                        _WAYS[row["way"]],
                        row["dtype"],
                        f"{row['seconds']:.3f}",
                        f"{row['times_limit']:.2f}",
                        f"{row['faster_than_baseline']:.1f}",
                        f"{row['peak_bytes'] / 1e6:.0f}" if row["peak_bytes"] else "",
                    )
                    for row in rows
                ],
            )
        )
    return "".join(parts) + _growth(result["growth"])


def _growth(rows: list[Result]) -> str:
    tokens = Axis("tokens", _TOKENS, log=True)
    time = Axis("µs per token", {0: "0", 2: "2", 4: "4", 6: "6", 8: "8"})
    calls = ("step", "forward")
    series = [Line(call, [(row["L"], 1e6 * row[f"{call}_seconds_per_token"]) for row in rows]) for call in calls]
    cells = [
        (
            f"{row['L']:,}",
            f"{1e6 * row['forward_seconds_per_token']:.2f}",
            f"{1e6 * row['step_seconds_per_token']:.2f}",
        )
        for row in rows
    ]
    return f"""## Growth with the sequence

The cost grows linearly with the number of tokens: time per token stays level from {rows[0]["L"]:,} to
{rows[-1]["L"]:,} tokens (D = {rows[0]["D"]}, two blocks).

{legend(["training step", "forward"])}
{lines("Time per token against the length of the sequence", tokens, time, series)}
{table(("tokens", "forward, µs per token", "step, µs per token"), cells)}"""


DECODER = Benchmark(
    name="decoder",
    title="S4 decoder",
    question="How close does the S4 decoder come to the time of its matrix products?",
    command="python -m benchmarks.decoder",
    method="""One window of 60 s through the paper's S4 decoder: B = 1, L = 11,820 tokens, D = 1024, three blocks and
random weights. It is compared with the *limit*, the matrix products that the published formulation needs, computed by
the faster of PyTorch's libraries; and with the *straightforward* formulation in PyTorch's own operators. A forward pass
uses kernels that were generated once; a training step generates them anew and includes the backward pass.

This project pools before the linear map, and an export folds two maps into one, so it computes fewer products than the
limit counts. Peak memory is what a step holds beyond parameters and input, measured in its own process.""",
    show=_decoder,
)

_MIXERS = {"S4": "S4", "softmax": "softmax attention", "fused": "fused attention"}
_FRAMES = {985: "985", 1970: "1,970", 3940: "3,940", 7880: "7,880", 11820: "11,820"}
_ATTENTION_AXES = {
    "seconds": Axis("seconds", {0.01: "0.01", 0.1: "0.1", 1: "1", 10: "10", 100: "100"}, log=True),
    "peak_bytes": Axis("MB", {1e7: "10", 1e8: "100", 1e9: "1,000", 1e10: "10,000"}, log=True),
}


def _attention(result: Result) -> str:
    # One dtype is drawn; a GPU's result holds bf16 too, which the table shows.
    dtypes = list(dict.fromkeys(row["dtype"] for row in result["rows"]))
    tokens = Axis("tokens", _FRAMES, log=True)
    figures = [
        lines(
            f"{title}, {measure.partition('_')[0] if measure == 'seconds' else 'peak memory'}",
            tokens,
            axis,
            [
                Line(mixer, [(row["L"], row[measure]) for row in _attention_rows(result, call, mixer, dtypes[-1])])
                for mixer in _MIXERS
            ],
        )
        for call, title in (("step", "Training step"), ("inference", "Inference"))
        for measure, axis in _ATTENTION_AXES.items()
    ]
    cells = [
        (
            "training step" if row["call"] == "step" else "inference",
            f"{row['L']:,}",
            _MIXERS[row["mixer"]],
            row["dtype"],
            f"{row['seconds']:.2f}",
            f"{row['times_s4_seconds']:.1f}",
            f"{row['peak_bytes'] / 1e6:.0f}",
            f"{row['times_s4_bytes']:.1f}",
        )
        for row in result["rows"]
        if row.get("seconds") is not None
    ]
    published = result["published"]
    return f"""{legend(list(_MIXERS.values()))}
{panels(figures)}

The published claim is {published["seconds"]:.2f} times faster and {published["peak_bytes"]:.0f} times less memory than
self-attention.

{table(("call", "tokens", "mixer", "dtype", "seconds", "× S4", "peak memory, MB", "× S4"), cells)}"""


def _attention_rows(result: Result, call: str, mixer: str, dtype: str) -> list[Result]:
    rows = [row for row in result["rows"] if (row["call"], row["mixer"], row["dtype"]) == (call, mixer, dtype)]
    return [row for row in rows if row.get("seconds") is not None]


ATTENTION = Benchmark(
    name="attention",
    title="S4 against attention",
    question="What does S4 save over self-attention as the sequence grows?",
    command="python -m benchmarks.attention",
    method="""The same multi-scale decoder with S4 or with self-attention in its blocks, as the sequence grows from 5 to
60 frames of 197 tokens: D = 1024, three blocks, B = 1, four attention heads. *Softmax* attention writes its scores out;
*fused* attention is PyTorch's `scaled_dot_product_attention`. On a CPU, every product is computed by the library that
PyTorch chooses. Peak memory is what a call holds beyond parameters and input, measured in its own process.""",
    show=_attention,
)


def _encoder(result: Result) -> str:
    drawn = [
        Bar(
            _bar_label(row), row["frames_per_second"], f"{row['frames_per_second']:.2f} frames/s", row["way"] != "eager"
        )
        for row in result["rows"]
        if row["batch"] == 8
    ]
    cells = [
        (
            _WAYS[row["way"]],
            row["dtype"],
            str(row["batch"]),
            f"{row['frames_per_second']:.2f}",
            f"{100 * row['share_of_limit']:.0f} %",
            f"{row['drift']:.1e}",
        )
        for row in result["rows"]
    ]
    return f"""{bars("Frames per second, eight frames at once, higher is better", drawn)}
{table(("", "dtype", "frames at once", "frames/s", "share of the limit", "drift"), cells)}
The limit is {result["gigaflop_per_frame"]:.1f} GFLOP per frame at the rate of the encoder's own linear layers. An
export may store weights in the layout that its products read, unlike the products of the limit, so it can exceed the
limit. Drift is the relative L2 error of the tokens against PyTorch in fp32.
"""


ENCODER = Benchmark(
    name="encoder",
    title="Frame encoder",
    question="How many frames per second does ViT-L/16 encode, in PyTorch and exported?",
    command="python -m benchmarks.encoder",
    method="""ViT-L/16 with random weights on frames of 224 × 224 pixels, one and eight at once. ONNX Runtime has no
bf16 products on a CPU, so there is no bf16 row for it.""",
    show=_encoder,
)


def _head(result: Result) -> str:
    drawn = [
        Bar(row["graph"], row["seconds"], f"{row['seconds']:.2f} s", not row["graph"].startswith("eager"))
        for row in result["rows"]
        if row["graph"] != "onnx, DFT operator"
    ]
    (slow,) = (row["seconds"] for row in result["rows"] if row["graph"] == "onnx, DFT operator")
    cells = [
        (
            row["graph"],
            f"{row['seconds']:.2f}",
            f"{row['faster_than_dft']:.1f}",
            f"{row['drift']:.1e}",
            f"{row['megabytes']:.0f}" if "megabytes" in row else "",
            f"{row['export_seconds']:.1f}" if "export_seconds" in row else "",
        )
        for row in result["rows"]
    ]
    header = ("graph", "seconds", "× faster than the DFT operator", "drift", "file, MB", "export, s")
    return f"""{bars("Seconds per window, lower is better", drawn)}
ONNX's DFT operator, which no lowering uses, takes {slow:.1f} s; it is left out of the chart.

{table(header, cells)}"""


HEAD = Benchmark(
    name="head",
    title="Exported S4 decoder",
    question="How fast is the paper's S4 decoder in every format?",
    command="python -m benchmarks.head",
    method="""One window of 60 s through the paper's S4 decoder (B = 1, L = 11,820, D = 1024, fp32, random weights):
in PyTorch, once with kernels generated on every call ("new kernels") and once with stored kernels; and exported. Drift
is the relative L2 error of the logits against PyTorch.""",
    show=_head,
)


def _longconv(result: Result) -> str:
    sizes = list(dict.fromkeys((row["H"], row["L"]) for row in result["rows"]))
    cells = []
    for target in dict.fromkeys(row["target"] for row in result["rows"]):
        for lowering in dict.fromkeys(row["lowering"] for row in result["rows"]):
            rows = [row for row in result["rows"] if (row["target"], row["lowering"]) == (target, lowering)]
            worst = max(row["relative_l2"] for row in rows)
            constant = sum(row["constant_megabytes"] for row in rows)
            times = [f"{row['milliseconds']:,.1f}" for row in rows]
            cells.append((target, f"`{lowering}`", *times, f"{worst:.1e}", f"{constant:.0f}"))
    header = (
        "target",
        "lowering",
        *(f"H = {h}, L = {length:,}, ms" for h, length in sizes),
        "worst error",
        "constants, MB",
    )
    return f"""{table(header, cells)}
`--lowering auto` takes the first lowering in this order of speed whose error is within the tolerance. The `fft` rows of
`onnx` are its DFT operator, which no export uses.
"""


LONGCONV = Benchmark(
    name="longconv",
    title="Lowerings of the long convolution",
    question="Which lowering of the long convolution is fastest on which target?",
    command="python -m benchmarks.longconv",
    method="""The long convolutions of the paper's three blocks (B = 1, fp32), each computed by every
[lowering](../how-it-works/freezing.md#lowerings) on every target that runs on a CPU. The error is the relative L2 error
against a double-precision convolution.""",
    show=_longconv,
)


def _paper_model(result: Result) -> str:
    cells = []
    for row in result["rows"]:
        sizes = {name.partition(".")[0]: size for name, size in row["megabytes"].items()}
        errors = [f"{row['parity'][graph]['relative_l2']:.1e}" for graph in ("encoder", "scene")]
        # An engine is not verified where it cannot run.
        verify = row["verify_seconds"]
        seconds = f"{row['export_seconds']:.0f}", "" if verify is None else f"{verify:.0f}"
        format, lowering = f"`{row['format']}`", f"`{row['lowering'][0]}`"
        files = f"{sizes['encoder']:.0f}", f"{sizes['scene']:.0f}"
        cells.append((format, row["precision"], lowering, *files, *errors, *seconds))
    header = ("format", "precision", "lowering", "encoder, MB", "head, MB", "encoder error", "head error")
    return f"""{table((*header, "export, s", "verify, s"), cells)}
Errors are the largest relative L2 errors over random input and the sample movie, at batch sizes 1 and 4. The tolerance
is 1e-4 in fp32, and 2e-2 with the same label in fp16 and bf16. The errors of `trt-rtx` are those of the ONNX graph that
its engine is built from.
"""


PAPER_MODEL = Benchmark(
    name="paper_model",
    title="The paper's model, exported",
    question="How large is the paper's model in each format, and how accurate?",
    command="python -m benchmarks.paper_model",
    method="""The paper's sizes with random weights: ViT-L/16 with 197 tokens of 1024 features per frame, and the S4
decoder at L = 11,820. Each bundle is written, compared with the model, opened again and verified.""",
    show=_paper_model,
)
