"""Videos in: which frames to take, how to decode only those, and two readers that agree."""

from vis4mer.video.movie import Movie, scan
from vis4mer.video.reader import Damage, FrameBatch, VideoDecoder, VideoInfo, VideoReader, open_video

__all__ = ["Damage", "FrameBatch", "Movie", "VideoDecoder", "VideoInfo", "VideoReader", "open_video", "scan"]
