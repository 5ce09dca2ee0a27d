"""The query of the video engine's capabilities, answered by a stand-in for the driver's library."""

import os
import shutil
import subprocess
from types import SimpleNamespace

import pytest

from vis4mer.devices.device import Device, Driver
from vis4mer.video import dali, nvdec
from vis4mer.video.movie import scan

GPU = Device("cuda", 1)

# Offsets in bytes, from the documentation of CUVIDDECODECAPS in cuviddec.h: three enumerations or integers, three
# reserved integers, then what the driver fills in, with C's alignment.
OFFSETS = {
    "eCodecType": 0,
    "eChromaFormat": 4,
    "nBitDepthMinus8": 8,
    "reserved1": 12,
    "bIsSupported": 24,
    "nNumNVDECs": 25,
    "nOutputFormatMask": 26,
    "nMaxWidth": 28,
    "nMaxHeight": 32,
    "nMaxMBCount": 36,
    "nMinWidth": 40,
    "nMinHeight": 42,
    "bIsHistogramSupported": 44,
    "nCounterBitDepth": 45,
    "nMaxHistogramBins": 46,
    "reserved3": 48,
}

# A GPU that decodes H.264 from 48 x 16 up to 4096 x 4096 but at most 65536 macroblocks (16 Mi pixels), VP9 with few
# macroblocks, and nothing else; a request of another chroma format or depth, or with bytes that are not zero, fails.
LIBRARY = """
#include <cstring>
extern "C" int cuvidGetDecoderCaps(unsigned char *caps) {
    int codec, chroma, rest[4] = {};
    std::memcpy(&codec, caps, 4);
    std::memcpy(&chroma, caps + 4, 4);
    for (int i = 8; i < 88; ++i)
        if (caps[i]) return 1;
    if (chroma != 1) return 1;
    if (codec == 9) return 100;
    caps[24] = codec == 4 || codec == 10;
    unsigned largest[3] = {4096, 4096, codec == 10 ? 4000u : 65536u};
    unsigned short smallest[2] = {48, 16};
    std::memcpy(caps + 28, largest, 12);
    std::memcpy(caps + 40, smallest, 4);
    return 0;
}
"""


def fake_driver():
    """Calls of the driver, which record what is current; they take what ctypes would pass."""
    calls = []

    def retain(context, index):
        calls.append(("retain", index))
        context._obj.value = 1000 + index
        return 0

    return SimpleNamespace(
        calls=calls,
        cuInit=lambda flags: 0,
        cuDevicePrimaryCtxRetain=retain,
        cuCtxPushCurrent_v2=lambda context: calls.append(("push", context.value)) or 0,
        cuCtxPopCurrent_v2=lambda context: calls.append(("pop",)) or 0,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which(os.environ.get("CXX") or "g++")
    if not compiler:
        pytest.skip("no C++ compiler")
    folder = tmp_path_factory.mktemp("nvcuvid")
    (folder / "caps.cpp").write_text(LIBRARY)
    subprocess.run([compiler, "-shared", "-fPIC", "-o", folder / "caps.so", folder / "caps.cpp"], check=True)
    return str(folder / "caps.so")


@pytest.fixture
def driver(monkeypatch):
    nvdec.capabilities.cache_clear()
    fake = fake_driver()
    monkeypatch.setattr(nvdec, "load_driver", lambda: fake)
    monkeypatch.setattr(dali, "probe_driver", lambda: Driver("13.0", ("A", "B"), ""))
    yield fake
    nvdec.capabilities.cache_clear()


@pytest.fixture
def engine(library, driver, monkeypatch):
    monkeypatch.setattr(nvdec, "_LIBRARY", library)
    return driver


def test_the_structure_has_the_documented_layout():
    assert {name: getattr(nvdec.DecoderCaps, name).offset for name, _ in nvdec.DecoderCaps._fields_} == OFFSETS
    assert nvdec.ctypes.sizeof(nvdec.DecoderCaps) == 88


def test_capabilities_are_queried_once_with_the_gpu_current(engine):
    for _ in range(2):
        assert nvdec.capabilities(GPU, "h264") == nvdec.Capabilities("", 48, 16, 4096, 4096, 65536)
    assert engine.calls == [("retain", 1), ("push", 1001), ("pop",)]


@pytest.mark.parametrize(
    ("codec", "width", "height", "problem"),
    [
        ("h264", 1920, 1080, None),
        ("h264", 4096, 4096, None),
        ("h264", 4097, 64, "h264 pictures of 4112 x 64 pixels: at most 4096 x 4096"),
        ("h264", 32, 64, "at least 48 x 16"),
        ("h264", 33, 1, None),
        ("vp9", 1920, 1080, "vp9 pictures of 1920 x 1080 pixels: at most 1,024,000 in all"),
        ("av1", 640, 360, "cuda:1 does not decode av1"),
        ("hevc", 640, 360, "cuda:1 does not decode hevc"),
        ("vp8", 640, 360, "does not start on cuda:1 (CUDA error 100)"),
        ("mjpeg", 640, 360, "cuda:1 does not decode mjpeg"),
    ],
)
def test_what_the_engine_decodes(codec, width, height, problem, engine):
    found = nvdec.obstacle(GPU, codec, width, height)
    assert found is None if problem is None else problem in found


def test_a_container_without_the_video_library(driver, monkeypatch, plain):
    monkeypatch.setattr(nvdec, "_LIBRARY", "libnvcuvid-absent.so.1")
    found = dali.obstacle(scan(plain), GPU)
    assert "NVIDIA_DRIVER_CAPABILITIES=compute,video,utility" in found
    assert driver.calls == []


def test_a_driver_that_refuses_the_gpu(engine):
    engine.cuDevicePrimaryCtxRetain = lambda context, index: 2
    assert "CUDA error 2" in nvdec.obstacle(GPU, "h264", 640, 360)
    assert engine.calls == []


def test_the_reader_asks_for_the_stored_size(engine, tmp_path, video_tools):
    """A picture of 128 x 32 pixels that is shown on its side."""
    path = tmp_path / "turned.mp4"
    video_tools.encode(path, size=(128, 32), prepare=lambda stream: stream.set_display_rotation(90))
    movie = scan(path)
    assert (movie.info.width, movie.info.height) == (32, 128)
    assert dali.obstacle(movie, GPU) is None


def test_movies_that_the_engine_does_not_decode_are_left_to_pyav(engine, tmp_path, video_tools):
    path = video_tools.encode(tmp_path / "movie.mkv", codec="libx265", options={"x265-params": "log-level=none"})
    assert dali.obstacle(scan(path), GPU) == "cuda:1 does not decode hevc"
