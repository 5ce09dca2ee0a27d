"""Processors, the CUDA driver, and arrays on the host or on a device."""
