"""Drawings of a prediction over the movie's time."""
