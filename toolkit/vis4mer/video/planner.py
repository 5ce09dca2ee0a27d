"""Plans which packets to decode for the wanted frames, so that they come out as if everything had been decoded.

Most codecs store few frames whole. A frame that can be decoded by itself is a *random access point*, or entry; the
others store differences from frames that were decoded before them. The packets from one entry up to the next form a
*group of pictures* (GOP). At one sample per second, most frames of a movie are neither wanted nor needed:

* A GOP without wanted frames is skipped, because decoding can start afresh at the next entry.
* Within a GOP, nothing after the last wanted packet is needed: references point back in decoding order.
* Non-reference frames (most B-frames) before it are skipped too unless they are wanted, because by definition no other
  frame depends on them.
* A *leading picture* is decoded after the entry but shown before it. In an *open* GOP it may refer to frames of the GOP
  before, so a wanted leading picture makes that whole GOP necessary. In a *closed* GOP it refers to nothing before
  the entry.

      decoding order          I0 P2 b1 P4 b3 | I7 b5 b6 P9 b8
      presentation order      I0 b1 P2 b3 P4 b5 b6 I7 b8 P9

  Here b5 and b6 lead I7. If the GOP is open, b5 needs I7 and P4; P9 needs I7 alone.

The result is bit-identical to decoding everything, not merely close to it: a video decoder's output is a function of
the packet and the reference frames it names, and every wanted frame still gets exactly the references that it would
have had. That holds as long as the entries and the disposable frames are truly such, which is why
`vis4mer.video.bitstream` reads both from the bitstream instead of trusting the container's flags.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vis4mer.video.index import Flags, PacketIndex


@dataclass(frozen=True)
class DecodePlan:
    """What to do with each packet, in decoding order.

    Attributes:
        send: Whether the video decoder gets the packet, bool `[packets]`.
        drain: Whether the video decoder is drained and reset after the packet, bool `[packets]`. Video decoders hold
            frames back to put them in presentation order; draining brings out what is left before decoding restarts at
            another entry.
    """

    send: Flags
    drain: Flags

    @property
    def last(self) -> int:
        """Ordinal of the last packet to send; no later one need be read."""
        return int(np.flatnonzero(self.send)[-1])


def plan(index: PacketIndex, wanted: NDArray[np.intp]) -> DecodePlan:
    """Plans the decoding of some frames; see the module's description for the rules.

    Args:
        index: Index of the video's packets.
        wanted: Ordinals of the packets that hold the wanted frames, intp `[wanted]`.

    Returns:
        The plan. For a file without timestamps (`PacketIndex.counted`) it decodes everything, since only counting the
        frames that come out then identifies them.
    """
    if index.counted:
        return _decode_everything(len(index.times))
    packets = len(index.times)
    send, drain = np.zeros(packets, bool), np.zeros(packets, bool)
    is_wanted = np.zeros(packets, bool)
    is_wanted[wanted] = True
    # Packets before the first entry belong to no GOP, so they are never sent. The index shows none of their frames.
    starts = np.flatnonzero(index.entry)
    ends = np.append(starts[1:], packets)  # exclusive

    # From the last GOP to the first, because a GOP with wanted leading pictures requires the one before.
    required_by_next = False
    for start, end in zip(starts[::-1], ends[::-1], strict=True):
        stop = _decode_until(is_wanted, start, end, required_by_next)
        # An empty range means that `required_by_next` is False too, and it stays False for the GOP before.
        if stop == start:
            continue
        gop = slice(start, stop)
        send[gop] = is_wanted[gop] | ~index.disposable[gop]
        # The packet of the next GOP's entry follows without a break if its leading pictures need this GOP.
        drain[stop - 1] = not required_by_next
        # The first GOP has none before it; the index shows no leading picture that would need one.
        required_by_next = start != starts[0] and _reaches_back(index, is_wanted, start, end)
    return DecodePlan(send, drain)


def _decode_everything(packets: int) -> DecodePlan:
    drain = np.zeros(packets, bool)
    drain[-1] = True
    return DecodePlan(np.ones(packets, bool), drain)


def _decode_until(is_wanted: Flags, start: int, end: int, required_by_next: bool) -> int:
    """Returns the ordinal before which decoding of the GOP `start` to `end` can stop; `start` if it is not needed."""
    if required_by_next:
        return end  # which of its frames the next GOP refers to is unknown without decoding
    inside = np.flatnonzero(is_wanted[start:end])
    return start + int(inside[-1]) + 1 if len(inside) else start


def _reaches_back(index: PacketIndex, is_wanted: Flags, start: int, end: int) -> bool:
    """Whether a wanted frame of the GOP `start` to `end` may refer to the GOP before."""
    leading = index.times[start:end] < index.times[start]
    return not index.closed[start] and bool((is_wanted[start:end] & leading).any())
