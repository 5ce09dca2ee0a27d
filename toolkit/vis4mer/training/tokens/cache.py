"""A cache of encoder tokens: movies are encoded once, and training then costs only what the S4 decoder costs."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vis4mer.config import Preprocessing
from vis4mer.devices.arrays import on_host
from vis4mer.devices.device import Device
from vis4mer.errors import DataError, DeviceError, VideoError
from vis4mer.files import atomic_file
from vis4mer.models.encoder import FrameEncoder
from vis4mer.training.config import TokenDtype
from vis4mer.training.data.listing import Clip
from vis4mer.training.tokens.files import TORCH_DTYPES, TokenFile, write_tokens
from vis4mer.video.reader import FrameProgress, VideoReader, open_video
from vis4mer.video.segments import cut_segments, segment_starts

_FORMAT = 1  # must increase whenever the same movie and encoder would yield different bytes
_ENCODER_FILE = "encoder.json"


class FeatureCache:
    """A folder of token files from one encoder and one kind of frames.

    Encoder weights, preprocessing and dtype determine the name of a subfolder, so tokens of two encoders never mix; its
    ``encoder.json`` describes them. In the subfolder, a movie's path, size and modification time (and its clip, if any)
    determine the name of its file, so a changed movie is encoded again. Files are written atomically, so a killed run
    continues where it stopped.

    Args:
        root: Folder of the cache, which may hold many subfolders; created if it does not exist.
        encoder: Encoder of the tokens, on the device to encode on.
        preprocessing: Preprocessing of the frames.
        dtype: Type of the stored tokens; ``bf16`` halves the disk space and keeps three significant digits.
        batch_size: Frames per pass through the encoder; an encoder that takes segments gets at least one per pass.
        refuse_others: Whether to refuse a cache that holds tokens of other encoders, and none of this one. Encoding all
            movies again would take long, and a wrong setting is the likely reason.

    Attributes:
        encoder: The encoder, in evaluation mode.
        folder: Subfolder of this encoder's token files.
        damage: Notes on the damage in videos that this object has encoded, by video and clip.

    Raises:
        ConfigError: The encoder takes segments and the preprocessing returns frames, or the other way round.
        DataError: The cache is refused, or the folder cannot be written.
    """

    def __init__(
        self,
        root: Path,
        encoder: FrameEncoder,
        preprocessing: Preprocessing,
        *,
        dtype: TokenDtype = "bf16",
        batch_size: int = 32,
        refuse_others: bool = False,
    ) -> None:
        encoder.config.check(preprocessing)
        self.encoder = encoder.eval()
        self._preprocessing = preprocessing
        self._dtype = TORCH_DTYPES[dtype]
        self._batch_size = batch_size
        self.damage: dict[tuple[Path, Clip | None], tuple[str, ...]] = {}
        description = {
            "format": _FORMAT,
            "encoder": encoder.config.to_dict(),
            "weights_sha256": weights_digest(encoder),
            "preprocessing": preprocessing.to_dict(),
            "dtype": dtype,
        }
        # The subfolder's name is the digest of these bytes, so the order of the keys must be fixed.
        text = json.dumps(description, indent=2, sort_keys=True).encode()
        self.folder = root / hashlib.sha256(text).hexdigest()[:16]
        # Refused before the subfolder is created, so that a refused run leaves nothing behind. Parsing the text turns
        # tuples into lists, as in the stored descriptions that it is compared with.
        if refuse_others:
            self._refuse_others(json.loads(text))
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(self.folder / _ENCODER_FILE) as file:
                file.write(text)
        except OSError as error:
            rule = f"cannot be written ({error.strerror})"
            raise DataError.of("cache", root, rule, "choose another folder") from None

    def _refuse_others(self, description: Mapping[str, Any]) -> None:
        root = self.folder.parent
        filled = sorted(path for path in root.glob(f"*/{_ENCODER_FILE}") if _holds_tokens(path.parent))
        if not filled or _holds_tokens(self.folder):
            return
        other = _read_description(filled[0])
        differences = f"{filled[0]} is damaged" if other is None else ", ".join(_differences(other, description))
        raise DataError.of(
            "cache",
            root,
            f"comes from another encoder or other frames ({differences})",
            "use the same settings, choose another folder, or add these tokens with vis4mer extract",
        )

    def path(self, video: Path, clip: Clip | None = None) -> Path:
        """Returns the path of the token file of `video`, or of a clip of it; the file need not exist.

        Raises:
            DataError: The video does not exist.
        """
        try:
            video = video.resolve(strict=True)
            status = video.stat()
        except OSError as error:
            raise DataError.of("video", video, f"cannot be read ({error.strerror})") from None
        # Size and modification time stand for the content, since hashing whole movies would take minutes at each start.
        identity = json.dumps([str(video), status.st_size, status.st_mtime_ns, *(clip or ())])
        return self.folder / f"{hashlib.sha256(identity.encode()).hexdigest()[:32]}.safetensors"

    def holds(self, video: Path, clip: Clip | None = None) -> bool:
        """Returns whether the cache holds the tokens of the current content of `video`."""
        try:
            return self.path(video, clip).exists()
        except DataError:
            return False

    def tokens(self, video: Path, clip: Clip | None = None, *, progress: FrameProgress | None = None) -> TokenFile:
        """Returns the tokens of `video`, or of a clip of it; encodes it first if the cache does not hold it.

        Args:
            video: Movie file.
            clip: Part of the movie to use, in seconds; None for the whole movie.
            progress: Callback for each batch of frames that was read.

        Raises:
            VideoError: The video cannot be opened, or none of its frames can be decoded.
            DataError: The encoder returns numbers that are not finite, the stored file is damaged, or the disk is full.
            DeviceError: The device lacks the memory for a batch.
        """
        # No lock is needed: processes that encode the same movie at once write to temporary files of their own, and the
        # last rename wins.
        path = self.path(video, clip)
        if path.exists():
            return TokenFile.open(path)
        # PyTorch leaves the index of the CPU, and of the current GPU, None.
        device = Device(self._device.type, self._device.index or 0)
        with open_video(video, self._preprocessing, device=device, batch_size=self._batch_size, clip=clip) as reader:
            metadata = {"video": video.name, "reader": reader.name}
            if clip:
                metadata["clip"] = json.dumps(clip)
            try:
                # The generator decodes and encodes while the file is written, so all their errors surface here.
                tokens = write_tokens(path, self._encode(reader, video, progress), metadata)
            # A VideoError is an OSError too, but not a fault of the cache's disk.
            except VideoError:
                raise
            except torch.OutOfMemoryError:
                rule = f"{self._device} has too little memory to encode this many frames at once"
                raise DeviceError.of("batch_size", self._batch_size, rule, "lower it") from None
            except OSError as error:
                raise DataError.of("cache", path, f"cannot be written ({error.strerror})") from None
            # The notes are complete only after the last frame was read.
            if reader.damage:
                self.damage[video, clip] = tuple(reader.damage.notes)
            return tokens

    def write_index(self) -> Path:
        """Writes ``index.json`` beside the token files: the movie, the clip (if any) and the shape of each file.

        The index depends on the files alone, not on the order in which they were encoded.

        Raises:
            DataError: A token file is damaged, or the disk is full.
        """
        index = {path.name: _index_entry(TokenFile.open(path)) for path in sorted(self.folder.glob("*.safetensors"))}
        target = self.folder / "index.json"
        try:
            with atomic_file(target) as file:
                file.write(json.dumps(index, indent=1, ensure_ascii=False).encode() + b"\n")
        except OSError as error:
            raise DataError.of("cache", target, f"cannot be written ({error.strerror})") from None
        return target

    @property
    def _device(self) -> torch.device:
        return next(self.encoder.parameters()).device

    @torch.inference_mode()
    def _encode(self, reader: VideoReader, video: Path, progress: FrameProgress | None) -> Iterator[Tensor]:
        # PyTorch applies the decorator's inference mode whenever this generator resumes and lifts it at each yield, so
        # the consumer's code runs outside it.
        for inputs in self._encoder_inputs(_counted(reader, progress), reader.n_frames):
            tokens = self.encoder(torch.from_numpy(inputs).to(self._device))
            # NaN in the cache would surface only after all movies are encoded, as a loss that is not finite.
            if not tokens.isfinite().all():
                raise DataError.of("video", video, "the encoder returns NaN or infinity", "check its weights")
            yield tokens.to(self._dtype).cpu()

    def _encoder_inputs(self, batches: Iterator[NDArray[np.uint8]], n_frames: int) -> Iterator[NDArray[np.uint8]]:
        """Returns the batches of frames [N, H, W, 3] as they are, or cut into segments [N, F, H, W, 3]."""
        if self._preprocessing.segments is None:
            return batches
        length = self.encoder.config.frames
        starts = segment_starts(n_frames, length, self._preprocessing.segments)
        return cut_segments(batches, starts, length, max(1, self._batch_size // length))


def _counted(reader: VideoReader, progress: FrameProgress | None) -> Iterator[NDArray[np.uint8]]:
    done = 0
    for batch in reader:
        yield on_host(batch.frames)
        done += len(batch.frames)
        if progress:
            progress(done, reader.n_frames)


def _index_entry(file: TokenFile) -> dict[str, object]:
    metadata = file.metadata()
    try:
        entry: dict[str, object] = {"video": metadata["video"]}
        if "clip" in metadata:
            entry["clip"] = json.loads(metadata["clip"])
    except (KeyError, ValueError, RecursionError):
        rule = "its metadata name no movie, or no clip of it"
        raise DataError.of("tokens", file.path, rule, "delete it to encode it again") from None
    return entry | {"frames": file.n_frames, "tokens": file.tokens_per_frame, "features": file.features}


def _holds_tokens(folder: Path) -> bool:
    return next(folder.glob("*.safetensors"), None) is not None


def _read_description(path: Path) -> Mapping[str, Any] | None:
    """Returns the description of a subfolder's encoder; None if the file is damaged."""
    try:
        description = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return description if isinstance(description, Mapping) else None


def _differences(there: Mapping[str, Any], here: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for name, value in here.items():
        other = there.get(name)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _differences(other, value, f"{prefix}{name}.")
        elif other != value:
            yield f"{prefix}{name} is {other!r} there and {value!r} here"


def weights_digest(module: nn.Module) -> str:
    """Returns the hexadecimal SHA-256 of a module's parameters and buffers: names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        # The bytes are read as uint8 because NumPy has no bfloat16, and flattened because a scalar has no axis to
        # reinterpret.
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
