"""Encoder tokens of movies, computed once and kept: training then costs what the S4 decoder costs."""

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vis4mer.config import Preprocessing
from vis4mer.devices.device import Device
from vis4mer.errors import DataError, DeviceError, VideoError
from vis4mer.files import atomic_file
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.listing import Clip
from vis4mer.training.tokens import TORCH_DTYPES, TokenDtype, TokenFile, write_tokens
from vis4mer.video.reader import VideoReader, open_video
from vis4mer.video.segments import cut_segments, segment_starts

_LOG = logging.getLogger(__name__)
_FORMAT = 1  # raise it whenever the same movie and encoder would give other bytes

Progress = Callable[[int, int], None]


class FeatureCache:
    """A folder of token files that one encoder made of one kind of frames.

    Encoder weights, preprocessing and dtype determine a subfolder's name, so tokens of two encoders never mix; its
    ``encoder.json`` says in words what they were. In it, a movie's path, size and modification time (and the clip, if
    it is one) determine the name of its file: a changed movie is encoded anew. Files appear whole or not at all, so
    that a run that was killed goes on where it was.

    Args:
        root: of the cache; may hold many subfolders, and is created if need be.
        encoder: computes the tokens, on the device it lies on.
        preprocessing: of the frames.
        dtype: of the stored tokens; ``bf16`` halves the disk and keeps three significant digits.
        batch_size: frames per pass through the encoder; for an encoder of segments at least one segment.

    Attributes:
        encoder: in evaluation mode.
        folder: of this encoder's token files.

    Raises:
        ConfigError: the encoder takes segments and the preprocessing gives frames, or the other way round.
        DataError: the folder cannot be written.
    """

    def __init__(
        self,
        root: Path,
        encoder: FrameEncoder,
        preprocessing: Preprocessing,
        *,
        dtype: TokenDtype = "bf16",
        batch_size: int = 32,
    ) -> None:
        encoder.config.check(preprocessing)
        self.encoder = encoder.eval()
        self._preprocessing = preprocessing
        self._dtype = TORCH_DTYPES[dtype]
        self._batch_size = batch_size
        maker = json.dumps(
            {
                "format": _FORMAT,
                "encoder": encoder.config.to_dict(),
                "weights_sha256": weights_digest(encoder),
                "preprocessing": preprocessing.to_dict(),
                "dtype": dtype,
            },
            indent=2,
            sort_keys=True,
        )
        self.folder = root / hashlib.sha256(maker.encode()).hexdigest()[:16]
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.folder / "encoder.json") as file:
                file.write(maker.encode())
        except OSError as error:
            raise DataError(f"cache={str(root)!r}: cannot be written ({error.strerror}); give another folder") from None

    def path(self, video: Path, clip: Clip | None = None) -> Path:
        """Returns where the tokens of `video`, or of a clip of it, are or would be.

        Raises:
            DataError: there is no such file.
        """
        try:
            video = video.resolve(strict=True)
            status = video.stat()
        except OSError as error:
            raise DataError(f"video={str(video)!r}: cannot be read ({error.strerror})") from None
        identity = json.dumps([str(video), status.st_size, status.st_mtime_ns, *(clip or ())])
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.safetensors"

    def holds(self, video: Path, clip: Clip | None = None) -> bool:
        """Whether the tokens of `video`, as it is now, are there."""
        try:
            return self.path(video, clip).exists()
        except DataError:
            return False

    def tokens(self, video: Path, clip: Clip | None = None, *, progress: Progress | None = None) -> TokenFile:
        """Returns the tokens of `video`, or of a clip of it, encoding it first where the cache has none.

        Args:
            video: a movie's file.
            clip: the part of it that counts.
            progress: told how many frames have been read, and of how many, while it is encoded.

        Raises:
            VideoError: the video cannot be opened or yields no frame.
            DataError: the encoder gives numbers that are not finite, the stored file is damaged, or the disk is full.
            DeviceError: the device lacks the memory for a batch.
        """
        path = self.path(video, clip)
        if path.exists():
            return TokenFile.open(path)
        device = Device(self._device.type, self._device.index or 0)
        with open_video(video, self._preprocessing, device=device, batch_size=self._batch_size, clip=clip) as reader:
            facts = {"video": video.name, "reader": reader.name} | ({"clip": json.dumps(clip)} if clip else {})
            try:
                return write_tokens(path, self._encode(reader, video, progress), facts)
            except VideoError:
                raise
            except torch.OutOfMemoryError:
                rule = f"{self._device} lacks the memory to encode them at once; lower it"
                raise DeviceError(f"batch_size={self._batch_size}: {rule}") from None
            except OSError as error:
                raise DataError(f"cache={str(path)!r}: cannot be written ({error.strerror})") from None

    def write_index(self) -> Path:
        """Writes ``index.json`` beside the token files: of each its movie, its clip if it is one, and its shape.

        It is a function of the files alone, whatever the order in which they came.

        Raises:
            DataError: a token file is damaged, or the disk is full.
        """
        index = {path.name: _entry(TokenFile.open(path)) for path in sorted(self.folder.glob("*.safetensors"))}
        target = self.folder / "index.json"
        try:
            with atomic_file(target) as file:
                file.write(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise DataError(f"cache={str(target)!r}: cannot be written ({error.strerror})") from None
        return target

    @property
    def _device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    @torch.inference_mode()
    def _encode(self, reader: VideoReader, video: Path, progress: Progress | None) -> Iterator[Tensor]:
        for inputs in self._inputs(_counted(reader, progress), reader.n_frames):
            tokens = self.encoder(torch.from_numpy(inputs).to(self._device))
            if not tokens.isfinite().all():
                raise DataError(f"video={str(video)!r}: the encoder gives NaN or infinity; check its weights")
            yield tokens.to(self._dtype).cpu()
        if reader.damage:
            _LOG.warning("%s: encoded what could be read: %s", video, "; ".join(reader.damage.notes))

    def _inputs(self, batches: Iterator[NDArray[np.uint8]], n_frames: int) -> Iterator[NDArray[np.uint8]]:
        """What the encoder takes: the frames themselves, or segments of them."""
        if self._preprocessing.segments is None:
            return batches
        length = self.encoder.config.frames
        starts = segment_starts(n_frames, length, self._preprocessing.segments)
        return cut_segments(batches, starts, length, max(1, self._batch_size // length))


def _counted(reader: VideoReader, progress: Progress | None) -> Iterator[NDArray[np.uint8]]:
    done = 0
    for batch in reader:
        yield batch.frames
        done += len(batch.frames)
        if progress:
            progress(done, reader.n_frames)


def _entry(tokens: TokenFile) -> dict[str, object]:
    facts = tokens.metadata()
    entry: dict[str, object] = {"video": facts["video"]}
    if "clip" in facts:
        entry["clip"] = json.loads(facts["clip"])
    return entry | {"frames": tokens.frames, "tokens": tokens.tokens, "features": tokens.features}


def weights_digest(module: nn.Module) -> str:
    """Returns the hexadecimal SHA-256 of a module's parameters and buffers: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
