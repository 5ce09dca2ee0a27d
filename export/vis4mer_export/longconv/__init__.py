"""Lowerings of the long convolution with a fixed kernel, one file each."""
