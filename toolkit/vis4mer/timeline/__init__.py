"""Drawings of a prediction over the movie's time."""

from vis4mer.timeline.save import save_timeline

__all__ = ["save_timeline"]
