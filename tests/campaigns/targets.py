"""What is fuzzed: each target turns bytes into an input, uses it, and checks what must hold of every answer.

A target returns whether the input was accepted. An input may be refused by this project's errors alone; any other
exception, an assertion included, is a finding.
"""

import dataclasses
import json
import struct
import tempfile
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from tests.campaigns.campaign import ROOT
from tests.campaigns.choices import Choices
from vis4mer.config import ModelConfig, Preprocessing
from vis4mer.errors import BundleError, ConfigError, DataError, VideoError, Vis4merError
from vis4mer.runtime.manifest import manifest_digest, read_manifest, write_manifest
from vis4mer.training.data.listing import Listing
from vis4mer.training.data.videos import gather_videos
from vis4mer.training.settings_file import dump_settings, read_settings
from vis4mer.training.tokens.cache import _index_entry
from vis4mer.training.tokens.files import TokenFile
from vis4mer.video import sampling
from vis4mer.video.bitstream import inspector
from vis4mer.video.frames import VideoInfo
from vis4mer.video.index import PacketIndex, index_packets
from vis4mer.video.movie import Movie
from vis4mer.video.planner import plan

Target = Callable[[bytes], bool]

_CODECS = ("h264", "hevc", "mpeg4", "mpeg1video", "mpeg2video", "vp8", "vp9", "")
_TIME_BASES = (
    *(Fraction(1, 1000), Fraction(1, 90_000), Fraction(1001, 30_000), Fraction(1), Fraction(599), Fraction(601)),
    *(Fraction(1, 2**31 - 1), Fraction(2**31 - 1), Fraction(1, 10**9)),
)
_MAX_SAMPLES = 20_000  # more would only be slow


@cache
def _folder() -> Path:
    """Returns a folder for the files of this process; in memory where there is such a folder."""
    memory = Path("/dev/shm")
    return Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))


def _file(name: str, content: bytes) -> Path:
    path = _folder() / name
    path.write_bytes(content)
    return path


def bitstream(data: bytes) -> bool:
    """Facts about packets: an entry is a key frame, and a closed entry is an entry."""
    choices = Choices(data)
    codec, extradata = choices.pick(_CODECS), choices.take(choices.below(40)) or None
    inspect = inspector(codec, extradata)
    while choices:
        key = bool(choices.below(2))
        facts = inspect(choices.take(choices.below(200)), key)
        assert key or not facts.entry
        assert facts.entry or not facts.closed
    return True


class _Packet(SimpleNamespace):
    """What `index_packets` reads of a packet."""

    def __bytes__(self) -> bytes:
        return bytes(self.content)


def _packet(choices: Choices) -> _Packet:
    content = choices.take(choices.below(24))
    return _Packet(
        content=content,
        size=len(content),
        stream_index=0 if choices.below(8) else 1,
        pts=choices.number() if choices.below(8) else None,
        dts=choices.number() if choices.below(8) else None,
        duration=choices.number() if choices.below(4) == 3 else None,
        is_keyframe=not choices.below(3),
        is_discard=choices.below(8) == 1,
        is_corrupt=choices.below(8) == 1,
    )


def index(data: bytes) -> bool:
    """The index of any packets orders its frames by time, and what samples take of it is sorted and in range."""
    choices = Choices(data)
    codec = SimpleNamespace(
        codec=SimpleNamespace(canonical_name=choices.pick(_CODECS)), extradata=choices.take(choices.below(24))
    )
    rates = (None, Fraction(24), Fraction(1, 10**6), Fraction(10**9), Fraction(24_000, 1001))
    stream: Any = SimpleNamespace(
        index=0,
        time_base=choices.pick((*_TIME_BASES, None)),
        average_rate=choices.pick(rates),
        guessed_rate=choices.pick(rates),
        codec_context=codec,
    )
    packets = [_packet(choices) for _ in range(1 + choices.below(64))]
    container: Any = SimpleNamespace(
        demux=lambda: (packet for packet in packets),  # a generator, which can be closed
        streams=[stream, stream],
        duration=choices.number() if choices.below(2) else None,
    )
    found = index_packets(container, stream, "movie")
    shown = found.times[found.order]
    assert np.all(np.diff(shown) >= 0)
    assert found.end > shown[-1]
    assert len(set(found.order.tolist())) == len(found.order)
    assert np.all(found.numbers[found.order] == np.arange(len(found.order)))
    _check_samples(found, choices)
    return True


def _check_samples(found: PacketIndex, choices: Choices) -> None:
    info = VideoInfo("movie", "", 2, 2, float((found.end - found.start) * found.time_base), 0.0, None, 0, "", 1)
    movie = Movie("movie", found, info, (1, 0, 0, 1), 2, full_range=False, range_is_coded=False)
    if choices.below(2):
        start = abs(choices.number()) / 1000
        movie = movie.cut(start, start + 0.001 + choices.below(1000))
    fps = choices.pick((1.0, 29.97, 1000.0, 1e-9, 24_000 / 1001))
    start, end = movie.clip or (found.start, found.end)
    count = sampling.n_samples(start, end, fps, found.time_base)
    if _MAX_SAMPLES < count <= sampling.MAX_SAMPLES:
        return
    numbers = movie.sample(Preprocessing(fps=fps, last_frame=bool(choices.below(2))))
    assert np.all(np.diff(numbers) >= 0)
    assert numbers[0] >= 0
    assert numbers[-1] < len(found.order)
    _check_plan(found, found.order[np.unique(numbers)])


def sampling_times(data: bytes) -> bool:
    """Presentation times lie on one clock without long gaps; a grid is ascending and within its bounds."""
    choices = Choices(data)
    time_base, ticks = choices.pick(_TIME_BASES), 1 + choices.below(1000)
    stamps = [
        tuple(choices.number() if choices.below(8) else sampling.NO_TIME for _ in range(2))
        for _ in range(1 + choices.below(40))
    ]
    pts, dts = zip(*stamps, strict=True)
    times = sampling.presentation_times(pts, dts, ticks, time_base)
    most = int(sampling.MAX_STILL / time_base) + ticks
    assert int(times.max()) - int(times.min()) <= 2 * len(times) * most
    start, length = choices.number() // 4, choices.below(10**9)
    fps = choices.pick((1.0, 29.97, 1000.0, 1e-300, 0.25, 24_000 / 1001))
    if sampling.n_samples(start, start + length, fps, time_base) > _MAX_SAMPLES:
        return False
    grid = sampling.grid(start, start + length, fps, time_base)
    assert grid[0] == start
    assert np.all(np.diff(grid) >= 0)
    assert grid[-1] < start + max(1, length)
    shown = np.sort(times)
    numbers = sampling.shown_at(shown, grid)
    inside = grid >= shown[0]
    assert np.all(shown[numbers][inside] <= grid[inside])
    seconds = [abs(choices.number()) / 7.0, 1e300]
    assert np.all(sampling.at_seconds(0, seconds, time_base) >= 0)
    return True


def planner(data: bytes) -> bool:
    """A plan sends each wanted packet with everything that it may refer to, without a reset in between."""
    choices = Choices(data)
    packets = 1 + choices.below(40)
    times = np.array([choices.below(64) for _ in range(packets)], np.int64)
    flags = [choices.below(8) for _ in range(packets)]
    entry = np.array([not flag & 1 for flag in flags])
    entry[choices.below(packets)] = True
    first = int(np.argmax(entry))
    closed = entry & np.array([bool(flag & 2) for flag in flags])
    shown = [
        ordinal
        for ordinal in range(first, packets)
        if closed[first] or times[ordinal] >= times[first] or entry[first + 1 : ordinal + 1].any()
    ]
    order = np.array(sorted(shown, key=lambda ordinal: times[ordinal]))
    found = PacketIndex(
        times=times,
        entry=entry,
        closed=closed,
        disposable=np.array([flag >= 6 for flag in flags]) & ~entry,
        order=order,
        end=100,
        time_base=Fraction(1),
        counted=choices.below(16) == 1,
        corrupt=0,
        truncated=False,
    )
    _check_plan(found, np.unique([choices.pick(shown) for _ in range(1 + choices.below(8))]))
    return True


def _check_plan(found: PacketIndex, wanted: Any) -> None:
    todo = plan(found, wanted)
    assert todo.drain[todo.last]
    assert np.all(todo.send | ~todo.drain)
    if found.counted:
        assert np.all(todo.send)
        return
    entries = np.flatnonzero(found.entry).tolist()
    for packet in wanted.tolist():
        group = max(place for place, start in enumerate(entries) if start <= packet)
        begin = entries[group]
        if group and not found.closed[begin] and found.times[packet] < found.times[begin]:
            begin = entries[group - 1]
        assert todo.send[packet]
        for before in range(begin, packet):
            assert todo.send[before] or found.disposable[before]
            assert not todo.drain[before]


@cache
def _sample_manifest() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((ROOT / "samples" / "bundle" / "manifest.json").read_text())
    return values


def manifest(data: bytes) -> bool:
    """A manifest that is read is written and read again as an equal one, whose digest may differ."""
    folder = _file("manifest.json", _resealed(Choices(data).json_of(_sample_manifest()))).parent
    read = read_manifest(folder)
    # Facts for people, such as the tools' versions, may hold NaN, which is not written.
    try:
        write_manifest(read, folder)
    except ValueError as error:
        assert "JSON compliant" in str(error)
        return True
    # An unknown entry, which its digest covers, is not written again.
    assert dataclasses.replace(read_manifest(folder), digest=None) == dataclasses.replace(read, digest=None)
    return True


def _resealed(content: bytes) -> bytes:
    """Computes the digest of a manifest anew, as an attacker would, unless the digest itself was altered."""
    try:
        values = json.loads(content)
        if not isinstance(values, dict) or values.get("digest") != _sample_manifest()["digest"]:
            return content
        return json.dumps(values | {"digest": manifest_digest(values)}).encode()
    except (ValueError, RecursionError):
        return content


def config(data: bytes) -> bool:
    """A configuration that is read is stored as JSON and read again as an equal one."""
    values = json.loads(json.dumps(Choices(data).altered(_sample_manifest()["model"])))
    read = ModelConfig.from_dict(values)
    stored = json.dumps(read.to_dict(), allow_nan=False)
    assert ModelConfig.from_dict(json.loads(stored)) == read
    return True


_HEADERS = (
    "path,label",
    "path,label,split",
    "path,value",
    "path,value,split",
    "label",
    "path",
    "split,path,label,label",
)
_SPLITS = ("train", "val")
_CELLS = (
    *("a.mp4", "b.mp4", "c.mp4", "./a.mp4", "d.mp4", "", "0", "1", "2", "1.5", "nan", "1e999", "²", "train", "val"),
    *("test", '"', '"a,b"', "\0", "é", "x" * 5000, "loop.mp4"),
)


def table(data: bytes) -> bool:
    """A listing that is read has targets in range and a movie to train and to validate on; a list has videos."""
    choices = Choices(data)
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        (_folder() / name).touch()
    loop = _folder() / "loop.mp4"
    if not loop.is_symlink():
        loop.symlink_to(loop)
    if choices.below(4) == 3:
        content = choices.rest()
    else:
        rows = [choices.pick(_HEADERS)]
        for number in range(choices.below(6)):
            likely = {"path": _CELLS[number], "label": "xy"[number % 2], "value": "1", "split": _SPLITS[number % 2]}
            cells = [
                likely[column] if choices.below(8) else choices.pick((*_CELLS, choices.text()))
                for column in rows[0].split(",")
            ]
            rows.append(",".join(cells))
        content = choices.pick(("\n", "\r\n", "\r")).join(rows).encode(errors="replace")
    path = _file(choices.pick(("movies.csv", "movies.txt")), content)
    try:
        assert gather_videos([path])
    except DataError:
        if path.suffix == ".txt":
            raise
    listing = Listing.read(path)
    assert listing.split("train")
    assert listing.split("val")
    for example in listing.examples:
        assert listing.task == "regression" or 0 <= example.target < len(listing.labels)
        assert np.isfinite(example.target)
    return True


_SETTINGS = {
    "data": {"movies": "movies.csv", "val_ratio": 0.2},
    "encoder": {"name": "vit_small_patch16_224", "weights": "random"},
    "preprocessing": {"fps": 1.0, "height": 224, "mean": [0, 0, 0], "std": [1, 1, 1], "resize": "crop"},
    "windows": {"seconds": 60, "stride": 1.0, "samples": None},
    "head": {"name": "decoder", "d_model": 64, "n_layers": 2, "d_state": 8, "dropout": 0.1},
    "training": {"epochs": 2, "lr": 1e-3, "seed": 0},
    "cache_dtype": "bf16",
}


def settings(data: bytes) -> bool:
    """Settings that are read are written as YAML and read again as equal ones."""
    choices = Choices(data)
    read = read_settings(_file("settings.yaml", choices.json_of(_SETTINGS)))
    again = _file("again.yaml", dump_settings(read).encode(errors="surrogatepass"))
    assert read_settings(again) == read.with_absolute_paths()
    return True


def tokens(data: bytes) -> bool:
    """A token file that opens has windows of its shape."""
    choices = Choices(data)
    n_bytes = choices.below(64)
    header = {
        "__metadata__": {"video": "a.mp4", "clip": "[0, 1]"},
        "tokens": {"dtype": "F32", "shape": [n_bytes // 8, 1, 2], "data_offsets": [0, n_bytes // 8 * 8]},
    }
    text = choices.json_of(header)
    length = choices.number() % 2**64 if choices.below(16) == 15 else len(text)
    path = _file("tokens.safetensors", struct.pack("<Q", length) + text + bytes(n_bytes // 8 * 8))
    file = TokenFile.open(path)
    _index_entry(file)
    shape = (2, file.tokens_per_frame, file.features)
    if file.n_frames * file.tokens_per_frame * file.features == 0:
        return True
    assert file.read(0, 2).shape == shape
    assert file.read(max(0, file.n_frames - 1), 2).shape == shape
    assert isinstance(file.pick([0]), torch.Tensor)
    return True


TARGETS: dict[str, Target] = {
    "bitstream": bitstream,
    "index": index,
    "sampling": sampling_times,
    "planner": planner,
    "manifest": manifest,
    "csv": table,
    "config": config,
    "settings": settings,
    "tokens": tokens,
}

_REFUSALS: dict[str, type[Vis4merError]] = {
    "index": VideoError,
    "manifest": BundleError,
    "csv": DataError,
    "config": ConfigError,
    "settings": ConfigError,
    "tokens": DataError,
}


def run(name: str, data: bytes) -> bool:
    """Runs a target on an input; returns whether it was accepted."""
    refusal = _REFUSALS.get(name)
    if refusal is None:
        return TARGETS[name](data)
    try:
        return TARGETS[name](data)
    except refusal as error:
        assert len(str(error).splitlines()) <= 1, "the message has several lines"
        return False
