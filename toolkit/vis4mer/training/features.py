"""Encoder tokens of movies, computed once and kept: training then costs what the S4 decoder costs."""

import hashlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from vis4mer.config import Preprocessing
from vis4mer.errors import DataError, VideoError
from vis4mer.files import atomic_file
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.tokens import TORCH_DTYPES, TokenDtype, TokenFile, write_tokens
from vis4mer.video.reader import VideoReader, open_video

_LOG = logging.getLogger(__name__)
_FORMAT = 1  # raise it whenever the same movie and encoder would give other bytes


class FeatureCache:
    """A folder of token files that one encoder made of one kind of frames.

    Encoder weights, preprocessing and dtype determine a subfolder's name, so tokens of two encoders never mix; its
    ``encoder.json`` says in words what they were. In it, a movie's path, size and modification time determine the
    name of its file: a changed movie is encoded anew. Files appear whole or not at all, so that a run that was killed
    goes on where it was.

    Args:
        root: of the cache; may hold many subfolders, and is created if need be.
        encoder: computes the tokens, on the device it lies on.
        preprocessing: of the frames.
        dtype: of the stored tokens; ``bf16`` halves the disk and keeps three significant digits.
        batch_size: frames per pass through the encoder.

    Raises:
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
        self._encoder = encoder.eval()
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

    def path(self, video: Path) -> Path:
        """Returns where the tokens of `video` are, or would be.

        Raises:
            DataError: there is no such file.
        """
        try:
            video = video.resolve(strict=True)
            status = video.stat()
        except OSError as error:
            raise DataError(f"video={str(video)!r}: cannot be read ({error.strerror})") from None
        identity = json.dumps([str(video), status.st_size, status.st_mtime_ns])
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.safetensors"

    def tokens(self, video: Path) -> TokenFile:
        """Returns the tokens of `video`, encoding it first where the cache has none.

        Raises:
            VideoError: the video cannot be opened or yields no frame.
            DataError: the encoder gives numbers that are not finite, the stored file is damaged, or the disk is full.
        """
        path = self.path(video)
        if path.exists():
            return TokenFile.open(path)
        with open_video(video, self._preprocessing, device=str(self._device), batch_size=self._batch_size) as reader:
            try:
                return write_tokens(path, self._encode(reader, video), {"video": video.name, "reader": reader.name})
            except VideoError:
                raise
            except OSError as error:
                raise DataError(f"cache={str(path)!r}: cannot be written ({error.strerror})") from None

    @property
    def _device(self) -> torch.device:
        return next(self._encoder.parameters()).device

    @torch.inference_mode()
    def _encode(self, reader: VideoReader, video: Path) -> Iterator[Tensor]:
        for batch in reader:
            tokens = self._encoder(torch.from_numpy(batch.frames).to(self._device))
            if not tokens.isfinite().all():
                raise DataError(f"video={str(video)!r}: the encoder gives NaN or infinity; check its weights")
            yield tokens.to(self._dtype).cpu()
        if reader.damage:
            _LOG.warning("%s: encoded what could be read: %s", video, "; ".join(reader.damage.notes))


def weights_digest(module: nn.Module) -> str:
    """Returns the hexadecimal SHA-256 of a module's parameters and buffers: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
