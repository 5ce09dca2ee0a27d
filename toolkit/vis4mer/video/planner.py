"""Which packets must be decoded to get the wanted frames, exactly as if everything had been decoded."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vis4mer.video.index import PacketIndex


@dataclass(frozen=True)
class DecodePlan:
    """What to do with each packet, in decoding order.

    Attributes:
        send: bool [packets], whether the video decoder gets the packet.
        drain: bool [packets], whether the video decoder is emptied and reset after the packet: what follows starts
            afresh at a random access point.
    """

    send: NDArray[np.bool_]
    drain: NDArray[np.bool_]


def plan(index: PacketIndex, wanted: NDArray[np.intp]) -> DecodePlan:
    """Plans the decoding of some frames.

    The packets from one random access point to the next form a GOP. A GOP without a wanted frame is left out; the
    others are decoded up to their last wanted frame, without the frames that are neither wanted nor referenced by
    others. Where a wanted frame leads an open GOP (decoded after its random access point, shown before it) it may
    refer to the GOP before, which then is decoded to its end first.

    Args:
        index: of the video's packets.
        wanted: ordinals of the packets that hold the wanted frames.

    Returns:
        The plan; without timestamps in the file (`PacketIndex.counted`) it is to decode everything.
    """
    packets = len(index.times)
    send, drain = np.zeros(packets, bool), np.zeros(packets, bool)
    if index.counted:
        send[:] = True
        drain[-1] = True
        return DecodePlan(send, drain)

    starts = np.flatnonzero(index.entry)
    ends = np.append(starts[1:], packets)  # exclusive
    is_wanted = np.zeros(packets, bool)
    is_wanted[wanted] = True
    needs_previous = False  # whether the GOP after the current one reaches back into it
    for start, end in zip(starts[::-1], ends[::-1], strict=True):
        inside = np.flatnonzero(is_wanted[start:end])
        if not len(inside) and not needs_previous:
            continue
        stop = end if needs_previous else start + inside[-1] + 1
        send[start:stop] = is_wanted[start:stop] | ~index.disposable[start:stop]
        drain[stop - 1] = not needs_previous
        leading = is_wanted[start:end] & (index.times[start:end] < index.times[start])
        needs_previous = bool(leading.any()) and not index.closed[start] and start != starts[0]
    return DecodePlan(send, drain)
