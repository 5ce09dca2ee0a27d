"""Reads movies: chooses the frames to sample, decodes only what they need, and resizes them."""

from vis4mer.video.movie import Movie, scan
from vis4mer.video.reader import Damage, FrameBatch, VideoDecoder, VideoInfo, VideoReader, open_video

__all__ = ["Damage", "FrameBatch", "Movie", "VideoDecoder", "VideoInfo", "VideoReader", "open_video", "scan"]
