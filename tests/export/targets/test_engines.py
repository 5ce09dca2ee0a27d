"""Engines of TensorRT for RTX, which are built without a GPU; its API stands in for TensorRT's, which is the same."""

import dataclasses
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import vis4mer
from vis4mer.cli.main import main
from vis4mer.devices import cuda
from vis4mer.devices.device import Device, Driver
from vis4mer.errors import ConfigError, DeviceError, ExportError, MissingDependencyError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.packages import install_command
from vis4mer.runtime.bundle import Bundle
from vis4mer.runtime.cases import CASES_FILE
from vis4mer.runtime.parity import ParityError
from vis4mer_export.exporter import export_model
from vis4mer_export.options import ExportOptions
from vis4mer_export.targets import engines, trt, trt_rtx
from vis4mer_export.targets.engine_options import BatchProfile, EngineSettings
from vis4mer_export.targets.engines import EngineReport, build_engine
from vis4mer_export.targets.registry import target

PROFILE = BatchProfile(1, 4, 8)
HEADS = {"min": 1, "opt": 1, "max": 4}
SETTINGS = EngineSettings("trt-rtx", PROFILE, PROFILE, Device("cuda"))


def built(graph: Path, engine: Path, precision: Any = "fp32", **settings: Any) -> EngineReport:
    """Builds an engine with `PROFILE`."""
    changed = dataclasses.replace(SETTINGS, **settings)
    return build_engine(graph, engine, precision=precision, profile=PROFILE, settings=changed)


@pytest.fixture(scope="session")
def rtx() -> Any:
    return pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")


@pytest.fixture(scope="module")
def graphs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with encoder.onnx, scene.onnx and likes.onnx."""
    return export_model(
        load_checkpoint(checkpoint), tmp_path_factory.mktemp("graphs") / "bundle", ExportOptions("onnx")
    ).path


@dataclasses.dataclass
class Build:
    """The builder's inputs, read from the network and its configuration before the engine is built."""

    interface: dict[str, tuple[Any, tuple[int, ...]]]
    strongly_typed: bool
    profile: list[tuple[int, ...]]
    gpus: list[Any]
    tf32: bool
    level: int


@pytest.fixture
def builds(rtx: Any, monkeypatch: pytest.MonkeyPatch) -> list[Build]:
    seen: list[Build] = []
    profiles: list[Any] = []
    create_profile, build = rtx.Builder.create_optimization_profile, rtx.Builder.build_serialized_network

    def create_and_keep(builder: Any) -> Any:
        profiles.append(create_profile(builder))
        return profiles[-1]

    def note_and_build(builder: Any, network: Any, config: Any) -> Any:
        tensors = [network.get_input(i) for i in range(network.num_inputs)]
        tensors += [network.get_output(i) for i in range(network.num_outputs)]
        seen.append(
            Build(
                interface={tensor.name: (tensor.dtype, tuple(tensor.shape)) for tensor in tensors},
                strongly_typed=network.get_flag(rtx.NetworkDefinitionCreationFlag.STRONGLY_TYPED),
                profile=[tuple(shape) for shape in profiles[-1].get_shape(tensors[0].name)],
                gpus=[config.get_compute_capability(i) for i in range(config.num_compute_capabilities)],
                tf32=config.get_flag(rtx.BuilderFlag.TF32),
                level=config.builder_optimization_level,
            )
        )
        assert config.num_optimization_profiles == 1
        return build(builder, network, config)

    monkeypatch.setattr(rtx.Builder, "create_optimization_profile", create_and_keep)
    monkeypatch.setattr(rtx.Builder, "build_serialized_network", note_and_build)
    return seen


class FakeTimes:
    """The timing cache of a build, which TensorRT for RTX does not have."""

    made: ClassVar[list[tuple[str, str]]] = []
    saved: ClassVar[int] = 0

    def __init__(self, config: Any, version: str, gpu: str) -> None:
        self.made.append((version, gpu))

    def save(self) -> None:
        FakeTimes.saved += 1


@pytest.fixture
def current(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The GPUs that have been made current."""
    devices: list[str] = []

    def stream_of(device: Device) -> Any:
        return SimpleNamespace(activate=lambda: devices.append(str(device)))

    monkeypatch.setattr(cuda, "stream_of", stream_of)
    return devices


@pytest.fixture
def tensorrt_with_gpu(rtx: Any, current: list[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stand-ins for TensorRT and a machine with two GPUs."""
    monkeypatch.setitem(sys.modules, "tensorrt", rtx)
    monkeypatch.setattr(engines, "TimingCache", FakeTimes)
    monkeypatch.setattr(FakeTimes, "made", [])
    monkeypatch.setattr(FakeTimes, "saved", 0)
    for module in (engines, trt):
        monkeypatch.setattr(module, "probe_driver", lambda: Driver("13.0", ("NVIDIA H100", "NVIDIA L4"), ""))
    return rtx


def check(name: str, **given: str) -> None:
    """Checks a target with some of its options."""
    target(name).check(target(name).parse_options(given))


def product_graph(path: Path, kind: int, features: int = 8, batch: int | str = "B") -> Path:
    """A product in the ONNX type `kind` between float32 features and logits."""
    source = helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, features])
    result = helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, 3])
    weights = np.random.default_rng(0).normal(size=(features, 3)).astype(helper.tensor_dtype_to_np_dtype(kind))
    nodes = [
        helper.make_node("Cast", ["features"], ["typed"], to=kind),
        helper.make_node("MatMul", ["typed", "weights"], ["product"]),
        helper.make_node("Cast", ["product"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(nodes, "graph", [source], [result], [numpy_helper.from_array(weights, "weights")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def dft_graph(path: Path) -> Path:
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", 8, 1])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", 8, 2])
    axis = numpy_helper.from_array(np.int64(1), "axis")
    node = helper.make_node("DFT", ["x", "", "axis"], ["y"], name="spectrum")
    graph = helper.make_graph([node], "graph", [source], [result], [axis])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_encoder_for_two_gpus(rtx: Any, builds: list[Build], graphs: Path, tmp_path: Path) -> None:
    engine = tmp_path / "encoder.engine"
    report = built(graphs / "encoder.onnx", engine, gpus=("sm86", "sm89"))
    [build] = builds
    assert build.interface == {
        "frames": (rtx.DataType.UINT8, (-1, 64, 64, 3)),
        "tokens": (rtx.DataType.FLOAT, (-1, 17, 64)),
    }
    assert build.profile == [(1, 64, 64, 3), (4, 64, 64, 3), (8, 64, 64, 3)]
    assert build.gpus == [rtx.ComputeCapability.SM86, rtx.ComputeCapability.SM89]
    assert build.strongly_typed
    assert not build.tf32
    assert (report.product, report.version) == ("trt-rtx", rtx.__version__)
    assert (report.gpus, report.precision, report.profile) == (("sm86", "sm89"), "fp32", PROFILE)
    assert report.layers > len(onnx.load(graphs / "encoder.onnx").graph.node) / 2
    assert report.bytes == engine.stat().st_size > 1 << 20
    assert report.seconds > 0
    assert list(tmp_path.iterdir()) == [engine]


@pytest.mark.parametrize("head", ["scene", "likes"])
def test_head_for_the_gpus_the_product_chooses(
    rtx: Any, builds: list[Build], graphs: Path, tmp_path: Path, head: str
) -> None:
    engine = tmp_path / f"{head}.engine"
    report = built(graphs / f"{head}.onnx", engine)
    [build] = builds
    outputs = {"scene": 3, "likes": 1}[head]
    assert build.interface == {
        "features": (rtx.DataType.FLOAT, (-1, 85, 64)),
        "logits": (rtx.DataType.FLOAT, (-1, outputs)),
    }
    assert build.gpus == []
    assert report.gpus == ()
    assert engine.stat().st_size == report.bytes


def test_the_trt_target_takes_the_same_path(
    tensorrt_with_gpu: Any, current: list[str], builds: list[Build], graphs: Path, tmp_path: Path
) -> None:
    engine = tmp_path / "scene.engine"
    report = built(graphs / "scene.onnx", engine, product="trt", device=Device("cuda", 1), optimization_level=4)
    [build] = builds
    assert build.profile == [(1, 85, 64), (4, 85, 64), (8, 85, 64)]
    assert build.gpus == []
    assert (build.strongly_typed, build.tf32, build.level) == (True, False, 4)
    assert (report.product, report.gpus) == ("trt", ("NVIDIA L4",))
    assert (report.optimization_level, report.hardware_compatibility, report.tensorrt_versions) == (4, "none", "same")
    assert engine.stat().st_size == report.bytes
    assert current == ["cuda:1"]
    assert (FakeTimes.made, FakeTimes.saved) == ([(tensorrt_with_gpu.__version__, "NVIDIA L4")], 1)


@pytest.mark.parametrize(
    ("versions", "hardware", "level"),
    [("same", "none", "NONE"), ("newer", "capability", "SAME_COMPUTE_CAPABILITY"), ("newer", "ampere", "AMPERE_PLUS")],
)
def test_engines_for_other_gpus_and_newer_versions(
    tensorrt_with_gpu: Any, versions: str, hardware: str, level: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TensorRT for RTX cannot build these, so that only the configuration is tested."""
    loaded: list[str] = []

    def import_module(name: str) -> None:
        loaded.append(name)
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(engines.importlib, "import_module", import_module)
    flags: list[Any] = []
    config = SimpleNamespace(set_flag=flags.append)
    settings = dataclasses.replace(
        SETTINGS, product="trt", optimization_level=5, hardware_compatibility=hardware, tensorrt_versions=versions
    )
    engines._configure_compatibility(tensorrt_with_gpu, config, settings)
    assert config.builder_optimization_level == 5
    assert config.hardware_compatibility_level == getattr(tensorrt_with_gpu.HardwareCompatibilityLevel, level)
    newer = versions == "newer"
    assert flags == [tensorrt_with_gpu.BuilderFlag.VERSION_COMPATIBLE] * newer
    assert loaded == ["tensorrt_lean"] * newer


def test_a_whole_trt_export_compares_the_engines_on_the_gpu_that_built_them(
    tensorrt_with_gpu: Any,
    current: list[str],
    builds: list[Build],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A stand-in for the GPU runs the graphs in PyTorch instead."""
    opened = []

    def open_engine(of: Any, source: Any, path: Path, device: Device) -> Any:
        opened.append((path.name, path.stat().st_size > 0, str(device)))
        return lambda batch: source.module(torch.from_numpy(batch)).detach().numpy()

    monkeypatch.setattr(engines, "open_written", open_engine)
    bundle = vis4mer.export(checkpoint, tmp_path / "bundle", format="trt", device="cuda:1", optimization_level=2)
    assert opened == [(f"{graph}.engine", True, "cuda:1") for graph in ("encoder", "scene", "likes")]
    assert current == ["cuda:1"] * 3
    assert [build.profile[-1][0] for build in builds] == [32, 4, 4]
    assert bundle.precision == "fp16"
    for name, report in bundle.parity.items():
        engine = report["engine"]
        assert engine["profile"] == ({"min": 1, "opt": 32, "max": 32} if name == "encoder" else HEADS)
        assert (engine["gpus"], engine["optimization_level"]) == (["NVIDIA L4"], 2)
        assert "tensor cores" in report["precision_reason"]
        assert "ran" not in report


def test_a_whole_export(
    rtx: Any, builds: list[Build], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle holds engines only; its parity report states that their ONNX graphs were compared."""
    monkeypatch.setattr(trt_rtx, "probe_driver", lambda: Driver(None, (), "there is no GPU"))
    output = tmp_path / "bundle"
    options = ("--format", "trt-rtx", "--precision", "fp32", "--batch-size", "1:4:8", "--gpu", "sm86,sm89")
    options += ("--unverified",)
    result = CliRunner().invoke(main, ["export", "--checkpoint", str(checkpoint), "--output", str(output), *options])
    assert result.exit_code == 0, result.stderr
    line = "not executed as written: encoder, scene, likes: there is no GPU; the errors are those of the ONNX graph"
    assert line in result.stdout
    bundle = Bundle.open(output)
    assert {"encoder.engine", "scene.engine", "likes.engine", CASES_FILE} == set(bundle.files)
    assert bundle.tools["tensorrt-rtx"].startswith(rtx.__version__.rpartition(".")[0])
    for build, (name, report) in zip(builds, bundle.parity.items(), strict=True):
        assert report["engine"]["profile"] == ({"min": 1, "opt": 4, "max": 8} if name == "encoder" else HEADS)
        assert report["engine"]["gpus"] == ["sm86", "sm89"]
        assert report["relative_l2"] <= report["tolerance"]
        assert report["ran"] == "the ONNX graph that the engine was built from"
        assert report["reason"] == "there is no GPU"
        assert report["engine"]["optimization_level"] is None
        assert "precision_reason" not in report
        assert build.gpus == [rtx.ComputeCapability.SM86, rtx.ComputeCapability.SM89]


def test_an_engine_that_cannot_run_here_is_refused_before_it_is_built(
    rtx: Any, builds: list[Build], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_rtx, "probe_driver", lambda: Driver(None, (), "there is no GPU"))
    message = r"format='trt-rtx': this machine cannot execute trt-rtx graphs in fp16 \(there is no GPU\); export on a"
    with pytest.raises(ExportError, match=message):
        vis4mer.export(checkpoint, tmp_path / "bundle", format="trt-rtx")
    assert (builds, list(tmp_path.iterdir())) == ([], [])


@pytest.mark.parametrize(
    ("gpu", "device", "reason"),
    [
        ("", "", None),
        ("sm86,sm89", "cuda", None),
        ("sm80", "cuda:0", "cuda:0 is sm89, and the engine is for sm80"),
        ("sm80", "cuda:1", None),
        ("", "cuda:2", "there is no cuda:2 here"),
    ],
)
def test_an_engine_needs_a_gpu_that_it_is_built_for(
    gpu: str, device: str, reason: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_rtx, "probe_driver", lambda: Driver("13.0", ("NVIDIA L4", "NVIDIA A100"), ""))
    monkeypatch.setattr(trt_rtx, "compute_capability", lambda device: [(8, 9), (8, 0)][device.index])
    rtx_target = target("trt-rtx")
    obstacle = rtx_target.obstacle("fp32", rtx_target.parse_options({"gpu": gpu, "device": device}))
    assert (obstacle and obstacle.reason) == reason


def test_an_engine_for_the_gpu_at_hand_is_compared_itself(
    rtx: Any, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stand-in for the GPU computes ten times too much, which the comparison with the engine notices."""
    monkeypatch.setattr(trt_rtx, "probe_driver", lambda: Driver("13.0", ("NVIDIA L4",), ""))
    monkeypatch.setattr(trt_rtx, "compute_capability", lambda device: (8, 9))
    opened = []

    def open_engine(of: Any, source: Any, path: Path, device: Device) -> Any:
        opened.append((path.name, path.stat().st_size > 0, str(device)))
        interface = source.interface.output
        return lambda batch: np.full(interface.shape(batch=len(batch)), 10, np.float32)

    monkeypatch.setattr(engines, "open_written", open_engine)
    with pytest.raises(ParityError, match="graph='encoder': relative error"):
        vis4mer.export(checkpoint, tmp_path / "bundle", format="trt-rtx")
    assert opened == [("encoder.engine", True, "cuda:0")]


@pytest.mark.parametrize(("precision", "kind"), [("fp16", TensorProto.FLOAT16), ("bf16", TensorProto.BFLOAT16)])
def test_half_precision_comes_from_the_graph(rtx: Any, tmp_path: Path, precision: Any, kind: int) -> None:
    graph, engine = product_graph(tmp_path / "head.onnx", kind), tmp_path / "head.engine"
    report = built(graph, engine, precision)
    assert report.precision == precision
    for other in {"fp32", "fp16", "bf16"} - {precision}:
        with pytest.raises(ExportError, match=f"^precision='{other}': the graph head.onnx is typed in {precision}$"):
            built(graph, engine, other)
    assert engine.stat().st_size == report.bytes


def test_weights_in_a_file_beside_the_graph(rtx: Any, tmp_path: Path) -> None:
    graph = product_graph(tmp_path / "head.onnx", TensorProto.FLOAT, features=5000)
    model = onnx.load(graph)
    onnx.save(model, graph, save_as_external_data=True, location="head.data", size_threshold=0)
    assert graph.stat().st_size < 1000 < 4 * 3 * 5000 <= (tmp_path / "head.data").stat().st_size
    engine = tmp_path / "head.engine"
    built(graph, engine)
    assert engine.stat().st_size > 4 * 3 * 5000


@pytest.mark.parametrize("product", ["trt", "trt-rtx"])
def test_an_unsupported_operator(tensorrt_with_gpu: Any, tmp_path: Path, product: Any) -> None:
    graph, engine = dft_graph(tmp_path / "head.onnx"), tmp_path / "head.engine"
    engine.write_bytes(b"the engine of an earlier export")
    with pytest.raises(
        ExportError, match=r"^head.onnx: tensorrt.* cannot parse operator DFT \(node 'spectrum'\): "
    ) as e:
        built(graph, engine, product=product)
    assert "\n" not in str(e.value)
    assert engine.read_bytes() == b"the engine of an earlier export"
    assert {path.name for path in tmp_path.iterdir()} == {"head.onnx", "head.engine"}


def test_a_type_that_the_gpu_lacks(rtx: Any, tmp_path: Path) -> None:
    graph = product_graph(tmp_path / "head.onnx", TensorProto.BFLOAT16)
    engine = tmp_path / "head.engine"
    with pytest.raises(ExportError, match=r"^head.onnx: tensorrt_rtx .* cannot build it: .*sm75") as error:
        built(graph, engine, "bf16", gpus=("sm75",))
    assert "\n" not in str(error.value)
    assert not engine.exists()


def test_an_invalid_graph(rtx: Any, tmp_path: Path) -> None:
    (tmp_path / "head.onnx").write_bytes(b"\xffno graph")
    with pytest.raises(ExportError, match=r"^head.onnx: tensorrt_rtx .* cannot parse it: "):
        built(tmp_path / "head.onnx", tmp_path / "head.engine")


def test_a_graph_of_fixed_batch(rtx: Any, tmp_path: Path) -> None:
    graph = product_graph(tmp_path / "head.onnx", TensorProto.FLOAT, batch=2)
    with pytest.raises(ExportError, match=r"head.onnx: has \['features', 'logits'\] of shapes .* must have one input"):
        built(graph, tmp_path / "head.engine")


def test_a_missing_output_folder(rtx: Any, tmp_path: Path) -> None:
    graph = product_graph(tmp_path / "head.onnx", TensorProto.FLOAT)
    with pytest.raises(ExportError, match=r"^head.engine: cannot be written: No such file or directory$"):
        built(graph, tmp_path / "no" / "head.engine")


@pytest.mark.parametrize("gpu", ["sm90", "SM86", "86", "current", ""])
def test_unsupported_gpus(rtx: Any, gpu: str) -> None:
    with pytest.raises(ConfigError, match=f"^gpu='{gpu}': TensorRT for RTX .* builds for sm75, sm80, .*sm89"):
        check("trt-rtx", gpu=f"sm86,{gpu}")


def test_trt_builds_for_a_gpu_at_hand(tensorrt_with_gpu: Any) -> None:
    check("trt")
    check("trt", device="cuda:1", hardware_compatibility="ampere")
    with pytest.raises(ConfigError, match=r"^gpu='sm86': format trt does not take this option; leave it out$"):
        check("trt", gpu="sm86")
    with pytest.raises(DeviceError, match=r"^device='cuda:2': this machine's GPUs are cuda:0 to cuda:1$"):
        check("trt", device="cuda:2")


@pytest.mark.parametrize("product", ["trt", "trt-rtx"])
def test_engines_are_not_for_the_cpu(tensorrt_with_gpu: Any, product: str) -> None:
    with pytest.raises(ConfigError, match=rf"^device='cpu': format {product} needs a GPU; use cuda or cuda:N$"):
        check(product, device="cpu")


def test_a_level_that_the_installed_version_lacks(tensorrt_with_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    levels = SimpleNamespace(__members__={"NONE": 0, "AMPERE_PLUS": 1})
    monkeypatch.setattr(tensorrt_with_gpu, "HardwareCompatibilityLevel", levels)
    check("trt", hardware_compatibility="ampere")
    with pytest.raises(ConfigError, match=r"^hardware_compatibility='capability': TensorRT .* has no such level; in"):
        check("trt", hardware_compatibility="capability")


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("optimization_level", "6", "must be from 0 to 5"),
        ("optimization_level", "²", "must be from 0 to 5"),
        ("hardware_compatibility", "turing", "must be none, capability, ampere"),
        ("tensorrt_versions", "older", "must be same or newer"),
        ("head_batch_size", "4:2:8", "must be MIN:OPT:MAX with 1 <= MIN"),
        ("device", "auto", "must be cpu, cuda or cuda:N"),
    ],
)
def test_malformed_options(option: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{option}='{value}': {message}"):
        target("trt").parse_options({option: value})


def test_trt_without_a_gpu_names_the_remedy(tensorrt_with_gpu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "probe_driver", lambda: Driver(None, (), "there is no NVIDIA driver"))
    message = r"^format='trt': there is no NVIDIA driver; TensorRT builds on a GPU of .*; export there, or use"
    with pytest.raises(DeviceError, match=message):
        check("trt")


def test_a_cuda_that_fails_is_one_line(tensorrt_with_gpu: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(log: Any) -> None:
        log.log(tensorrt_with_gpu.ILogger.ERROR, "CUDA initialization failure\nwith error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt_with_gpu, "Builder", fail)
    with pytest.raises(DeviceError, match=r"^format='trt': .*: CUDA initialization failure with error: 35$"):
        built(tmp_path / "head.onnx", tmp_path / "head.engine", product="trt")


@pytest.mark.parametrize(("product", "extra"), [("trt", "trt"), ("trt-rtx", "rtx")])
def test_a_product_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, product: Any, extra: str) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=re.escape(install_command(extra))):
        check(product)


@pytest.mark.parametrize(
    ("text", "profile"), [("1:4:8", (1, 4, 8)), ("2:2:2", (2, 2, 2)), ("16", (1, 16, 16)), ("1", (1, 1, 1))]
)
def test_batch_sizes(text: str, profile: tuple[int, int, int]) -> None:
    assert BatchProfile.parse(text) == BatchProfile(*profile)


@pytest.mark.parametrize(
    "text", ["", "0", "4:2:8", "0:1:2", "1:9:8", "1:2", "1:2:3:4", "-1:2:3", "a", "1.5", "²", "1: 2:3"]
)
def test_malformed_batch_sizes(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^batch_size='.*': must be "):
        BatchProfile.parse(text)
