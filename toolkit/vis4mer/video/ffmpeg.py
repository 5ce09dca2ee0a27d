"""The PyAV calls that process a file's content, and one rule for the errors that they raise.

FFmpeg rejects bad content with an error code, which PyAV raises as `av.FFmpegError`. But PyAV also raises errors of its
own on unusual or damaged files: IndexError on a stream that begins in mid-file, ValueError on side data newer than its
tables, MemoryError on absurd picture sizes. No list of such types is ever complete. Therefore each call that processes
content is wrapped on its own by `content_call`, and whatever it raises means that the content is unusable. The wrapped
functions hold little but library calls, so an error in this project's own logic still ends in a traceback.
"""

import functools
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any, ParamSpec, TypeVar, cast

import av
from av.container import InputContainer
from av.video.frame import VideoFrame

from vis4mer.errors import VideoError
from vis4mer.text import first_line

P = ParamSpec("P")
T = TypeVar("T")


class ContentError(Exception):
    """A library call failed on a file's content; callers either count it as damage or raise a `VideoError`."""


def content_call(call: Callable[P, T]) -> Callable[P, T]:
    """Decorates a function that processes a file's content: it raises `ContentError` for any error.

    KeyboardInterrupt and SystemExit pass, since they are not `Exception`s.
    """

    @functools.wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return call(*args, **kwargs)
        except Exception as error:
            raise _content_error(error) from error

    return guarded


def _content_error(error: Exception) -> ContentError:
    return ContentError(first_line(error))


def is_exhaustion(error: ContentError) -> bool:
    """Returns whether the machine, not the content, made a call fail: for want of memory or of threads."""
    # FFmpeg reports "try again" where it cannot start a thread.
    return isinstance(error.__cause__, MemoryError | BlockingIOError)


def too_little_memory(path: str, action: str) -> VideoError:
    """Returns the error of a call that failed for want of memory or of threads.

    Args:
        path: Path of the video.
        action: What they do not suffice for, such as ``decode it``.
    """
    rule = f"too little memory, or too few threads, to {action}"
    return VideoError.of("video", path, rule, "free some, or raise the process's limits")


def demux(container: InputContainer) -> "Iterator[av.Packet[Any]]":
    """Yields the packets of all streams that the container listed when it was opened, in file order.

    A stream may also begin in mid-file. PyAV skips its packets, but after the last packet it usually fails to look such
    a stream up (`InputContainer.demux` indexes a list of the streams known at first). Every packet of the listed
    streams has come by then, so that error loses nothing.

    Raises:
        ContentError: The file is damaged beyond reading at this point, or a stream began in mid-file.
    """
    # Most readers stop before the last packet. PyAV's generator, unless it is closed, then never frees its read buffer.
    with closing(cast("Generator[av.Packet[Any]]", container.demux())) as demuxed:
        while True:
            try:  # what `content_call` does, without a call per packet: a movie has a million
                packet = next(demuxed)
            except StopIteration:
                return
            except Exception as error:
                raise _content_error(error) from error
            yield packet


@content_call
def decode(decoder: av.VideoCodecContext, packet: "av.Packet[av.VideoStream] | None") -> list[VideoFrame]:
    """Sends a packet to the video decoder, or None at the end of a run of packets, and returns what comes out.

    Raises:
        ContentError: The video decoder rejects the packet.
    """
    return decoder.decode(packet)
