"""The mathematics of S4 written once, readably, in PyTorch, and the native ops tested against it."""
