"""A model small enough to compute by hand, as an ONNX bundle; movies whose frames are known; a fake CUDA driver."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing, WindowConfig
from vis4mer.devices import cuda
from vis4mer.devices.device import Driver
from vis4mer.runtime.bundle import BundleWriter
from vis4mer.video import movie as movies

from .fake_driver import FakeDriver

TOKENS, FEATURES, WINDOW = 2, 4, 5  # P, D, frames

MakeBundle = Callable[[Path], None]
MakeVideo = Callable[[Path, Sequence[tuple[int, int, int]]], Path]


def _decoder(d_output: int) -> DecoderConfig:
    return DecoderConfig(FEATURES, l_max=WINDOW * TOKENS, d_output=d_output, d_model=FEATURES, n_layers=1)


TINY_MODEL = ModelConfig(
    heads={
        "colour": HeadConfig(_decoder(3), labels=("reddish", "greenish", "bluish")),
        "light": HeadConfig(_decoder(1), task="regression"),
    },
    encoder=EncoderConfig("mean-colour", tokens=TOKENS, features=FEATURES),
    preprocessing=Preprocessing(fps=1.0, height=8, width=8),
    windows=WindowConfig(seconds=WINDOW, stride=2),
)


@dataclass(frozen=True)
class TinyModel:
    """The graphs of the bundle again, in NumPy: mean colour, matrix to the tokens, mean, matrix to the logits."""

    to_tokens: NDArray[np.float32]
    to_logits: dict[str, NDArray[np.float32]]

    def encode(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        colours = frames.astype(np.float32).mean(axis=(1, 2)) / 255
        return (colours @ self.to_tokens).reshape(-1, TOKENS, FEATURES)

    def head(self, name: str, features: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(features.mean(axis=1) @ self.to_logits[name])

    def onnx_encoder(self) -> bytes:
        nodes = [
            helper.make_node("Cast", ["frames"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMean", ["floats"], ["means"], axes=[1, 2], keepdims=0),
            helper.make_node("Div", ["means", "white"], ["colours"]),
            helper.make_node("MatMul", ["colours", "weights"], ["flat"]),
            helper.make_node("Reshape", ["flat", "shape"], ["tokens"]),
        ]
        constants = {
            "white": np.float32(255),
            "weights": self.to_tokens,
            "shape": np.array([-1, TOKENS, FEATURES]),
        }
        frames = helper.make_tensor_value_info("frames", TensorProto.UINT8, ["N", 8, 8, 3])
        tokens = helper.make_tensor_value_info("tokens", TensorProto.FLOAT, ["N", TOKENS, FEATURES])
        return serialise(nodes, constants, frames, tokens)

    def onnx_head(self, name: str) -> bytes:
        weights = self.to_logits[name]
        nodes = [
            helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("MatMul", ["mean", "weights"], ["logits"]),
        ]
        features = helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", WINDOW * TOKENS, FEATURES])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", weights.shape[1]])
        return serialise(nodes, {"weights": weights}, features, logits)


def serialise(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, NDArray[np.generic]],
    source: onnx.ValueInfoProto,
    result: onnx.ValueInfoProto,
) -> bytes:
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "graph", [source], [result], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="session")
def tiny_model() -> TinyModel:
    rng = np.random.default_rng(0)
    return TinyModel(
        rng.normal(size=(3, TOKENS * FEATURES)).astype(np.float32),
        {
            name: rng.normal(size=(FEATURES, h.decoder.d_output)).astype(np.float32)
            for name, h in TINY_MODEL.heads.items()
        },
    )


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    return TINY_MODEL


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Path of the bundle; tests that alter it copy it first."""
    path = tmp_path_factory.mktemp("bundles") / "tiny"
    with BundleWriter(path) as writer:
        writer.path("encoder.onnx").write_bytes(tiny_model.onnx_encoder())
        for name in TINY_MODEL.heads:
            writer.path(f"{name}.onnx").write_bytes(tiny_model.onnx_head(name))
        writer.commit(format="onnx", precision="fp32", model=TINY_MODEL, tools={"onnx": onnx.__version__})
    return path


@pytest.fixture(scope="session")
def make_video() -> MakeVideo:
    """Writes a lossless movie with one plain RGB frame a second, so that what a decoder returns is known exactly."""

    def make(path: Path, colours: Sequence[tuple[int, int, int]]) -> Path:
        with av.open(f"file:{path}", "w", format="matroska") as container:
            stream = container.add_stream("ffv1", rate=1, width=16, height=16, pix_fmt="bgr0")
            for colour in colours:
                frame = av.VideoFrame.from_ndarray(np.full((16, 16, 3), colour, np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the movies that are scanned from now on, each as often as it is."""
    scanned: list[str] = []
    index_packets = movies.index_packets

    def recording(container: Any, stream: Any, path: str) -> Any:
        scanned.append(path)
        return index_packets(container, stream, path)

    monkeypatch.setattr(movies, "index_packets", recording)
    return scanned


@pytest.fixture(scope="session")
def movie(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve seconds that turn from red to blue."""
    colours = [(250 - 20 * i, 10, 5 + 20 * i) for i in range(12)]
    return make_video(tmp_path_factory.mktemp("movies") / "movie.mkv", colours)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeDriver]:
    """A machine with one GPU, as far as this package's own calls go."""
    fake = FakeDriver()
    monkeypatch.setattr(cuda, "load_driver", lambda: fake)
    monkeypatch.setattr(cuda, "probe_driver", lambda: Driver("13.0", ("a GPU",), ""))
    cuda._stream_of.cache_clear()
    yield fake
    cuda._stream_of.cache_clear()
