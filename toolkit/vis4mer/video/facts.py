"""Facts about one compressed packet, which `vis4mer.video.bitstream` reads from its headers."""

from collections.abc import Callable
from typing import NamedTuple


class PacketFacts(NamedTuple):
    """Facts about one packet.

    Attributes:
        entry: Whether decoding can start here such that this frame and all frames shown after it come out right.
        closed: Whether it is an entry whose leading pictures do not refer to anything before it either.
        referenced: Whether other frames may refer to this one, or it carries parameters that they need.
        layer: Temporal sub-layer. A frame that is unreferenced within its own may still be referenced from higher ones.
        shown: Whether the packet yields a frame; some codecs have packets that only update the decoder's references.
        oddity: What GPU video decoders, which pair packets and pictures one to one, do not read right; or empty.
    """

    entry: bool
    closed: bool
    referenced: bool = True
    layer: int = 0
    shown: bool = True
    oddity: str = ""


Inspect = Callable[[bytes, bool], PacketFacts]
"""A function that maps a packet's bytes and its container's key-frame flag to its facts.

It remembers the headers of the packets before, so one function serves one pass over one stream."""

CHANGED_HEADER = "a stream whose sequence header changes"
SEVERAL_PICTURES = "packets with several pictures, or none"
REPEATED_PICTURE = "packets that show an earlier picture again"
