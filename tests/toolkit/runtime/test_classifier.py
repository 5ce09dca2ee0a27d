import ctypes
import math
import re
import shutil
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vis4mer
from vis4mer.devices.arrays import DeviceArray
from vis4mer.devices.device import CPU, Device, Driver
from vis4mer.errors import BundleError, CheckpointError, ConfigError, DeviceError, Vis4merError
from vis4mer.runtime.bundle import BundleWriter
from vis4mer.runtime.classifier import Classifier
from vis4mer.runtime.model_path import is_bundle
from vis4mer.video import open_video, scan

SAMPLES = Path(__file__).parents[3] / "samples"


def naive(model: Any, colours: Sequence[tuple[int, int, int]], starts: Sequence[int]) -> dict[str, Any]:
    """The movie's prediction from all its frames at once: encode, cut, pad, run, average."""
    frames = np.stack([np.full((8, 8, 3), colour, np.uint8) for colour in colours])
    tokens = model.encode(frames)
    padded = np.concatenate([tokens, np.zeros((max(0, 5 - len(tokens)), 2, 4), np.float32)])
    windows = np.stack([padded[start : start + 5].reshape(10, 4) for start in starts])
    powers = np.exp(model.head("colour", windows))
    return {"colour": powers / powers.sum(1, keepdims=True), "light": model.head("light", windows)[:, 0]}


def with_runners(classifier: Classifier, **runners: Any) -> Classifier:
    """The same classifier with other runners for some of its graphs."""
    return Classifier(
        classifier.model,
        {**classifier.stages.runners, **runners},
        source=classifier.source,
        device=classifier.device,
        device_reason=classifier.device_reason,
        precision=classifier.precision,
    )


def colours(n: int) -> list[tuple[int, int, int]]:
    return [(250 - 20 * i, 10, 5 + 20 * i) for i in range(n)]


@pytest.mark.parametrize(
    ("n_frames", "stride", "starts"),
    [(12, None, [0, 2, 4, 6, 7]), (12, 1.0, list(range(8))), (11, 3.0, [0, 3, 6]), (5, 2.0, [0]), (3, 2.0, [0])],
)
@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_a_prediction_equals_that_of_all_frames_at_once(
    tiny_bundle: Path,
    tiny_model: Any,
    make_video: Any,
    tmp_path: Path,
    n_frames: int,
    stride: float | None,
    starts: list[int],
    batch_size: int,
) -> None:
    video = make_video(tmp_path / "movie.mkv", colours(n_frames))
    prediction = vis4mer.load(tiny_bundle, device="cpu")(video, stride=stride, batch_size=batch_size)
    expected = naive(tiny_model, colours(n_frames), starts)

    assert [w.start for w in prediction.windows] == starts
    assert [w.end for w in prediction.windows] == [min(start + 5, n_frames) for start in starts]
    windows = np.array([w.probabilities for w in prediction.windows])
    np.testing.assert_allclose(windows, expected["colour"], atol=1e-6)
    mean = expected["colour"].mean(0)
    np.testing.assert_allclose(list(prediction.probabilities.values()), mean, atol=1e-6)
    assert prediction.label == ["reddish", "greenish", "bluish"][int(expected["colour"].sum(0).argmax())]
    light = prediction.heads["light"]
    assert light.value == pytest.approx(expected["light"].mean(), abs=1e-6)
    assert [w.value for w in light.windows] == pytest.approx(expected["light"].tolist(), abs=1e-6)
    assert (light.label, light.probabilities) == (None, {})
    assert (prediction.frames, prediction.duration) == (n_frames, n_frames)


def test_every_frame_is_encoded_once_however_windows_overlap(tiny_bundle: Path, movie: Path) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    encode, sizes = classifier.stages.runners["encoder"], []

    def counting(frames: Any) -> Any:
        sizes.append(len(frames))
        return encode(frames)

    seen = []
    with_runners(classifier, encoder=counting)(
        movie, stride=1.0, batch_size=5, progress=lambda done, expected: seen.append((done, expected))
    )
    assert sum(sizes) == 12
    assert max(sizes) <= 5
    assert seen[-1] == (12, 12)
    assert [done for done, _ in seen] == [0, *np.cumsum(sizes).tolist()]


def sequential(classifier: Any, video: Path, batch_size: int) -> dict[str, np.ndarray]:
    """What a classifier's runners make of a movie one after the other, in this thread."""
    model, runners = classifier.model, classifier.stages.runners
    with open_video(video, model.preprocessing, batch_size=batch_size) as reader:
        tokens = np.concatenate([runners["encoder"](batch.frames) for batch in reader])
    length, step = model.window_frames, model.windows.stride_frames(model.preprocessing.fps)
    starts = [*range(0, len(tokens) - length, step), len(tokens) - length]
    at_once = max(1, batch_size // length)
    groups = [starts[i : i + at_once] for i in range(0, len(starts), at_once)]
    features = [np.stack([tokens[s : s + length].reshape(-1, tokens.shape[-1]) for s in group]) for group in groups]
    return {name: np.concatenate([runners[name](batch) for batch in features]) for name in model.heads}


def test_overlapping_stages_change_no_bit() -> None:
    classifier, batch_size = vis4mer.load(SAMPLES / "bundle", device="cpu"), 7
    logits: dict[str, list[np.ndarray]] = {name: [] for name in classifier.model.heads}

    def recording(name: str) -> Any:
        run = classifier.stages.runners[name]
        return lambda batch: logits[name].append(output := run(batch)) or output

    expected = sequential(classifier, SAMPLES / "movie.mp4", batch_size)
    with_runners(classifier, **{name: recording(name) for name in logits})(SAMPLES / "movie.mp4", batch_size=batch_size)
    for name, outputs in logits.items():
        np.testing.assert_array_equal(np.concatenate(outputs), expected[name])


@pytest.mark.parametrize("stage", ["encoder", "colour"])
@pytest.mark.parametrize("error", [DeviceError("out of memory"), KeyboardInterrupt()])
def test_a_failing_stage_ends_the_others(
    tiny_bundle: Path, make_video: Any, tmp_path: Path, stage: str, error: BaseException
) -> None:
    video = make_video(tmp_path / "movie.mkv", [(20, 40, 60)] * 300)
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    run, calls, encoded = classifier.stages.runners[stage], [], []

    def fail(batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 3:
            raise error
        return run(batch)

    def counting(frames: Any, encode: Any = classifier.stages.runners["encoder"]) -> Any:
        encoded.append(len(frames))
        return encode(frames)

    failing = with_runners(classifier, **{"encoder": counting, stage: fail})
    before = set(threading.enumerate())
    with pytest.raises(type(error)) as raised:
        failing(video, batch_size=2)
    assert raised.value is error
    assert set(threading.enumerate()) <= before
    assert len(calls) == 3
    assert sum(encoded) < 30, "the movie was read on"


def test_tokens_stay_on_the_device(tiny_bundle: Path, make_video: Any, tmp_path: Path, driver: Any) -> None:
    """The device is a stand-in, whose memory is the host's, so that ONNX Runtime's CPU kernels can work in it."""
    gpu, video = Device("cuda"), make_video(tmp_path / "movie.mkv", colours(12))
    cpu = vis4mer.load(tiny_bundle, device="cpu")
    expected = cpu(video, stride=1.0, batch_size=10)

    def on_device(name: str) -> Any:
        run, row = cpu.stages.runners[name], {"encoder": (2, 4), "colour": (3,), "light": (1,)}[name]

        def call(batch: Any) -> DeviceArray:
            if name != "encoder":
                assert isinstance(batch, DeviceArray), "tokens came to the host"
            batch = np.asarray(batch) if isinstance(batch, np.ndarray) else host_view(batch)
            result = DeviceArray.empty((len(batch), *row), np.dtype(np.float32), gpu)
            host_view(result)[:] = run(batch)
            return result

        return call

    classifier = with_runners(cpu, **{name: on_device(name) for name in cpu.stages.runners})
    got = classifier(video, stride=1.0, batch_size=10)
    assert got.heads == expected.heads
    assert set(driver.copies) == {"DtoD", "DtoH"}
    downloads = driver.copies.count("DtoH")
    assert downloads == 2 * 4, "logits of two heads, of four groups of two windows, and nothing else"


def host_view(array: DeviceArray) -> np.ndarray:
    memory = (ctypes.c_ubyte * array.nbytes).from_address(array.address)
    return np.frombuffer(memory, array.dtype).reshape(array.shape)


def test_the_dictionary_is_the_json_contract(tiny_bundle: Path, movie: Path) -> None:
    values = vis4mer.load(tiny_bundle, device="cpu")(movie, video_decoder="pyav").to_dict()
    assert values["video"] == str(movie)
    assert values["bundle"] == str(tiny_bundle)
    assert (values["video_decoder"], values["device"], values["duration"]) == ("pyav", "cpu", 12.0)
    assert list(values["heads"]) == ["colour", "light"]
    colour, light = values["heads"].values()
    assert set(colour) == {"label", "probabilities", "windows"}
    assert list(colour["probabilities"]) == ["reddish", "greenish", "bluish"]
    assert math.isclose(sum(colour["probabilities"].values()), 1)
    assert set(colour["windows"][0]) == {"start", "end", "probabilities"}
    assert set(light) == {"value", "windows"}
    assert set(light["windows"][0]) == {"start", "end", "value"}


@pytest.mark.parametrize(("n_frames", "padded"), [(4, True), (5, False)])
def test_a_movie_shorter_than_a_window_is_reported(
    tiny_bundle: Path,
    make_video: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    n_frames: int,
    padded: bool,
) -> None:
    video = make_video(tmp_path / "short.mkv", colours(n_frames))
    prediction = vis4mer.load(tiny_bundle, device="cpu")(video)
    assert prediction.to_dict()["padded"] is padded
    reported = [f"video={str(video)!r}: 4 s is shorter than the model's window of 5 s" in m for m in caplog.messages]
    assert reported == [True] * padded


@pytest.mark.parametrize(("stride", "used"), [(0.3, 1.0), (1.005, 1.0), (2.9, 3.0)])
def test_a_stride_rounded_to_frames_is_reported_by_every_classifier(
    tiny_bundle: Path, movie: Path, caplog: pytest.LogCaptureFixture, stride: float, used: float
) -> None:
    for number in (1, 2):
        classifier = vis4mer.load(tiny_bundle, device="cpu")
        assert [classifier(movie, stride=stride).to_dict()["stride"] for _ in range(2)] == [used, used]
        message = f"stride={stride:g}: windows start at sampled frames, 1 per second; using {used:g} s"
        assert caplog.messages == [message] * number
        assert (classifier(movie).stride, classifier(movie, stride=3.0).stride) == (2.0, 3.0)
        assert len(caplog.messages) == number


def test_threads_share_a_classifier(tiny_bundle: Path, make_video: Any, tmp_path: Path) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    videos = [make_video(tmp_path / f"{i}.mkv", [(20 * i, 40, 200 - 20 * i)] * 7) for i in range(6)]
    alone = [classifier(video).to_dict() for video in videos]
    together: dict[int, Any] = {}
    threads = [
        threading.Thread(target=lambda i=i: together.update({i: classifier(videos[i]).to_dict()})) for i in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[i] for i in range(6)] == alone


@pytest.mark.parametrize(("stride", "batch_size"), [(0.0, 1), (-1.0, 1), (math.nan, 1), (math.inf, 1), (None, 0)])
def test_arguments_are_validated(tiny_bundle: Path, movie: Path, stride: float | None, batch_size: int) -> None:
    with pytest.raises(ConfigError, match=r"stride|batch_size"):
        vis4mer.load(tiny_bundle, device="cpu")(movie, stride=stride, batch_size=batch_size)


def test_an_output_that_is_not_finite_is_an_error(
    tiny_bundle: Path, tiny_model: Any, tiny_config: Any, movie: Path, tmp_path: Path
) -> None:
    broken = type(tiny_model)(tiny_model.to_tokens, {n: w * np.nan for n, w in tiny_model.to_logits.items()})
    with BundleWriter(tmp_path / "broken") as writer:
        writer.path("encoder.onnx").write_bytes(tiny_model.onnx_encoder())
        for name in tiny_config.heads:
            writer.path(f"{name}.onnx").write_bytes(broken.onnx_head(name))
        writer.commit(format="onnx", precision="fp32", model=tiny_config)
    with pytest.raises(Vis4merError, match=r"head='colour': returned a non-finite output at 0\.0 s"):
        vis4mer.load(tmp_path / "broken", device="cpu")(movie)


def test_an_altered_graph_never_reaches_the_backend(tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    graph = bytearray((bundle / "colour.onnx").read_bytes())
    graph[-20] ^= 1
    (bundle / "colour.onnx").write_bytes(graph)
    with pytest.raises(BundleError, match="sha256"):
        vis4mer.load(bundle, device="cpu")


def test_graphs_that_do_not_fit_the_manifest_are_an_error(tiny_model: Any, tiny_config: Any, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "swapped") as writer:
        writer.path("encoder.onnx").write_bytes(tiny_model.onnx_encoder())
        writer.path("colour.onnx").write_bytes(tiny_model.onnx_head("light"))
        writer.path("light.onnx").write_bytes(tiny_model.onnx_head("colour"))
        writer.commit(format="onnx", precision="fp32", model=tiny_config)
    message = (
        r"graph='colour': the file holds .*logits float32\[B, 1\]\), but the manifest states .*float32\[batch, 3\]"
    )
    with pytest.raises(BundleError, match=message):
        vis4mer.load(tmp_path / "swapped", device="cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:-1", "CPU", "", "cuda:9999", "cpu\n"])
def test_an_unknown_device_is_an_error(tiny_bundle: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="must be auto, cpu, cuda or cuda:N"):
        vis4mer.load(tiny_bundle, device=name)


def test_an_absent_gpu_is_an_error_and_auto_reports_why_it_is_not_used(
    tiny_bundle: Path, movie: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vis4mer.devices.device.probe_driver", lambda: Driver(None, (), "there is no NVIDIA driver"))
    with pytest.raises(DeviceError, match="device='cuda:0': there is no NVIDIA driver; use --device cpu or auto"):
        vis4mer.load(tiny_bundle, device="cuda")
    prediction = vis4mer.load(tiny_bundle)(movie)
    assert (prediction.device, prediction.device_reason) == ("cpu", "there is no NVIDIA driver")


def test_a_device_is_named_or_parsed(tiny_bundle: Path) -> None:
    for device in ("cpu", CPU):
        classifier = vis4mer.load(tiny_bundle, device=device)
        assert (classifier.device, classifier.device_reason) == (CPU, "requested")


def test_a_scanned_movie_is_not_scanned_again(tiny_bundle: Path, movie: Path, scans: list[str]) -> None:
    classifier = vis4mer.load(tiny_bundle, device="cpu")
    expected = classifier(movie)
    assert scans == [str(movie)]
    scanned = scan(movie)
    scans.clear()
    assert classifier(scanned) == expected
    assert scans == []


def test_paths_without_a_model_are_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BundleError, match="does not exist"):
        vis4mer.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"holds neither manifest\.json nor config\.json"):
        vis4mer.load(tmp_path / "empty")
    with pytest.raises(BundleError, match="cannot be read"):
        vis4mer.load(tmp_path / ("x" * 300))


@pytest.mark.parametrize("content", [b"# a text", b"", bytes(100), b"\x00\x00\x00\x20ftypisom"])
def test_a_file_that_is_not_a_model_is_an_error_without_pytorch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    file = tmp_path / "README.md"
    file.write_bytes(content)
    with pytest.raises(BundleError, match="is neither a bundle nor a checkpoint; pass a bundle folder"):
        is_bundle(file)


def test_a_file_of_a_bundle_names_the_bundle(tiny_bundle: Path) -> None:
    for name in ("encoder.onnx", "manifest.json"):
        with pytest.raises(BundleError, match=re.escape(f"pass its folder, {str(tiny_bundle)!r}")):
            is_bundle(tiny_bundle / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.pt", b""), ("A.CKPT", b""), ("a.safetensors", b""), ("epoch=3", b"PK\x03\x04..."), ("old", b"\x80\x02\x8a")],
)
def test_weights_are_recognised_by_suffix_or_first_bytes(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert not is_bundle(tmp_path / name)


def test_a_checkpoint_without_encoder_is_refused() -> None:
    pytest.importorskip("torch")
    original = Path(__file__).parents[2] / "resources" / "original" / "lvu-small" / "checkpoint.pt"
    with pytest.raises(CheckpointError, match="holds decoders only"):
        vis4mer.load(original, device="cpu")
