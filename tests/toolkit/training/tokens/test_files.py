from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vis4mer.errors import DataError
from vis4mer.training.tokens.files import TokenFile, write_tokens


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_any_safetensors_reader_reads_what_was_streamed(tmp_path: Path, dtype: torch.dtype) -> None:
    tokens = torch.randn(7, 3, 5).to(dtype)
    path = tmp_path / "movie.safetensors"
    written = write_tokens(path, tokens.split(3), {"video": "naïve \n.mp4"})
    assert torch.equal(load_file(path)["tokens"], tokens)
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"video": "naïve \n.mp4"}
    assert written == TokenFile.open(path) == TokenFile(path, n_frames=7, tokens_per_frame=3, features=5)


def test_bytes_do_not_depend_on_the_batches(tmp_path: Path) -> None:
    tokens = torch.randn(9, 2, 4)
    for size in (1, 4, 9):
        write_tokens(tmp_path / f"{size}", tokens.split(size), {})
    assert len({(tmp_path / f"{size}").read_bytes() for size in (1, 4, 9)}) == 1


@pytest.mark.parametrize(("start", "length"), [(0, 9), (2, 3), (8, 1), (6, 5), (0, 20)])
def test_a_window_is_read_and_padded_with_zeros(tmp_path: Path, start: int, length: int) -> None:
    tokens = torch.randn(9, 2, 4)
    window = write_tokens(tmp_path / "movie", [tokens], {}).read(start, length)
    expected = torch.zeros(length, 2, 4)
    expected[: 9 - start] = tokens[start : start + length]
    assert torch.equal(window, expected)


def test_single_frames_are_picked_in_any_order(tmp_path: Path) -> None:
    tokens = torch.randn(9, 2, 4).bfloat16()
    file = write_tokens(tmp_path / "movie", [tokens], {})
    assert torch.equal(file.pick([8, 0, 3, 3]), tokens[[8, 0, 3, 3]])


def test_no_frame_is_an_error_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no frame"):
        write_tokens(tmp_path / "movie", [], {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"no tokens at all, but some bytes", b"\xff" * 64])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "movie.safetensors"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"movie\.safetensors.*delete it"):
        TokenFile.open(path)


@pytest.mark.parametrize(
    ("tokens", "held"),
    [
        (torch.zeros(3), r"it holds F32 \[3\]"),
        (torch.zeros(0, 1, 2), r"it holds F32 \[0, 1, 2\]"),
        (torch.zeros(3, 1, 2, dtype=torch.int64), r"it holds I64 \[3, 1, 2\]"),
    ],
)
def test_other_tensors_are_not_tokens(tmp_path: Path, tokens: torch.Tensor, held: str) -> None:
    path = tmp_path / "movie.safetensors"
    save_file({"tokens": tokens}, path)
    with pytest.raises(DataError, match=rf"not a token file \({held}\); delete it"):
        TokenFile.open(path)


def test_a_file_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "movie.safetensors"
    save_file({"tokens": torch.zeros(3, 1, 2)}, path)
    assert TokenFile.open(path).metadata() == {}


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "movie.safetensors"
    write_tokens(path, [torch.zeros(9, 2, 4)], {})
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="delete it"):
        TokenFile.open(path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    file = write_tokens(tmp_path / "movie", [torch.zeros(3, 2, 4)], {})
    file.path.unlink()
    for read in (lambda: file.read(0, 2), lambda: file.pick([0])):
        with pytest.raises(DataError, match=r"tokens='.*movie'.*delete it to encode it again"):
            read()
