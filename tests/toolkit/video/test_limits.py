"""Files that announce or hold more than a movie can: each is refused by one line before it costs time or memory."""

import os
import struct

import pytest

from tests.campaigns.containers import box, full_box, matroska, mp4
from vis4mer.config import Preprocessing
from vis4mer.errors import VideoError
from vis4mer.video import container, open_video, scan

EIGHT_PICTURES = matroska(times=range(0, 1000, 125))


def edits(count, ticks=1):
    """An edit list whose entries repeat the first `ticks` of the track."""
    return box(b"edts", full_box(b"elst", struct.pack(">I", count), struct.pack(">Iii", ticks, 0, 65_536) * count))


def sound(samples, ticks=1):
    """A track of uncompressed sound, which lists a sample per tick."""
    table = box(
        b"stbl",
        full_box(b"stts", struct.pack(">III", 1, samples, ticks)),
        full_box(b"stsz", struct.pack(">II", 2, samples)),
    )
    return box(b"trak", box(b"mdia", full_box(b"hdlr", b"mhlrsoun", bytes(13)), box(b"minf", table)))


def refusal(data, tmp_path):
    path = tmp_path / "movie.mp4"
    path.write_bytes(data)
    with pytest.raises(VideoError) as error:
        scan(path)
    return str(error.value)


@pytest.mark.parametrize("samples", [1000, 80_000_000, 0xFFFFFFFF])
def test_more_samples_than_bytes(samples, tmp_path):
    assert f"its header lists {samples:,} samples" in refusal(mp4(samples=samples, stored=8), tmp_path)


def test_the_samples_of_all_tracks_count(tmp_path):
    assert "lists 1,600 samples" in refusal(mp4(samples=800, stored=0, tracks=2), tmp_path)


def test_each_edit_repeats_the_samples(tmp_path):
    assert "lists 1,000,000 samples" in refusal(mp4(samples=1000, edits=edits(1000)), tmp_path)


def test_a_fragment_that_announces_samples(tmp_path):
    fragment = box(b"moof", box(b"traf", full_box(b"trun", struct.pack(">I", 80_000_000))))
    assert "lists 80,000,008 samples" in refusal(mp4() + fragment, tmp_path)


def test_too_many_edits(tmp_path):
    assert "lists 1,001 edits, and at most 1,000" in refusal(mp4(edits=edits(1001)), tmp_path)


@pytest.mark.parametrize(
    "data",
    [
        mp4(edits=edits(2)),
        mp4(before=sound(1_000_000)),
        mp4(before=box(b"free", bytes(4)) + box(b"skip")),
        mp4() + struct.pack(">I4s", 0, b"free") + bytes(50),
        mp4() + struct.pack(">I4sQ", 1, b"free", 16),
        mp4() + struct.pack(">I4s", 3, b"free"),
        struct.pack(">I4s", 8, b"\0\0\0\0") + mp4(),
    ],
    ids=["edits", "sound", "free", "to-the-end", "64-bit", "length-3", "unknown"],
)
def test_what_is_plausible_is_read(data, tmp_path):
    path = tmp_path / "movie.mp4"
    path.write_bytes(data)
    assert scan(path).info.width == 2


def test_compressed_sound_has_an_entry_per_sample(tmp_path):
    assert "lists 1,000,008 samples" in refusal(mp4(before=sound(1_000_000, ticks=1024)), tmp_path)


def test_large_pictures(plain, monkeypatch):
    monkeypatch.setattr(container, "MAX_PIXELS", 128 * 64 - 1)
    with pytest.raises(VideoError, match="its pictures have 128 x 64 pixels, and at most 8,191 are decoded; scale it"):
        scan(plain)


def test_a_header_that_announces_large_pictures(tmp_path):
    data = mp4(size=(10_000, 10_000))
    assert "none of its frames can be decoded" in refusal(data, tmp_path)


def test_pictures_larger_than_announced_are_not_decoded(plain, tmp_path, monkeypatch):
    """The header announces 128 x 64 pixels, and so do the packets; only the limit differs."""
    monkeypatch.setattr(container, "_STREAM_OPTIONS", {"max_pixels": "1000"})
    assert "none of its frames can be decoded" in refusal(plain.read_bytes(), tmp_path)


def test_a_file_most_of_which_was_never_written(tmp_path):
    path = tmp_path / "movie.mkv"
    path.write_bytes(EIGHT_PICTURES)
    os.truncate(path, 1 << 40)
    with pytest.raises(VideoError, match=r"1,048,575 of its 1,048,576 MiB were never written; pass a complete"):
        scan(path)


def test_an_incomplete_download_is_read_as_far_as_it_goes(tmp_path, monkeypatch):
    path = tmp_path / "movie.mkv"
    path.write_bytes(EIGHT_PICTURES + os.urandom(1 << 20))
    size = path.stat().st_size
    os.truncate(path, size + (size * 3) // 4)
    monkeypatch.setattr(container, "MAX_GAP_BYTES", 1 << 10)
    with open_video(path, Preprocessing(fps=8.0, height=2, width=2)) as reader:
        assert [image[0, 0, 0] for batch in reader for image in batch.frames] == list(range(8))


def test_a_search_for_packets_ends(tmp_path, monkeypatch):
    """What precedes the rubbish is read."""
    path = tmp_path / "movie.mkv"
    path.write_bytes(EIGHT_PICTURES)
    os.truncate(path, 1 << 40)
    monkeypatch.setattr(container, "MAX_GAP_BYTES", 1 << 41)
    monkeypatch.setattr(container, "_READ_SECONDS", 1)
    with open_video(path, Preprocessing(fps=8.0, height=2, width=2)) as reader:
        assert [image[0, 0, 0] for batch in reader for image in batch.frames] == list(range(8))
        assert reader.damage.corrupt_packets == 1


def test_opening_ends(tmp_path, monkeypatch):
    path = tmp_path / "movie.flv"
    path.write_bytes(b"FLV\1\1" + struct.pack(">I", 9) + bytes(4))
    os.truncate(path, 1 << 40)
    monkeypatch.setattr(container, "MAX_GAP_BYTES", 1 << 41)
    monkeypatch.setattr(container, "_READ_SECONDS", 1)
    with pytest.raises(VideoError, match="no movie that is found within 1 s of reading"):
        scan(path)
