"""Times of TensorRT's kernels, kept in the user's cache folder so that later builds need not measure them again."""

import logging
import re
from typing import Any

from vis4mer.user_cache import read_cached, write_cached

logger = logging.getLogger(__name__)


class TimingCache:
    """The times that a build reads and adds to.

    TensorRT rejects times of another version or GPU; the build then begins without any, and its own replace them.

    Args:
        config: Builder configuration, to which the times are attached. TensorRT reads them until the engine is built.
        version: Version of TensorRT.
        gpu: Name of the GPU.
    """

    def __init__(self, config: Any, version: str, gpu: str) -> None:
        self._config = config
        self._name = f"tensorrt-{version}-times-{re.sub(r'[^A-Za-z0-9]+', '-', gpu)}"
        self._read = read_cached(self._name)
        cache = config.create_timing_cache(self._read)
        if cache is None or not config.set_timing_cache(cache, ignore_mismatch=False):
            logger.debug("the cached times %s are damaged, or of another GPU or version", self._name)
            cache = config.create_timing_cache(b"")
            config.set_timing_cache(cache, ignore_mismatch=False)
        self._cache = cache

    def save(self) -> None:
        """Writes the times, with those that other builds have written since this one began."""
        stored = read_cached(self._name)
        if stored != self._read and (others := self._config.create_timing_cache(stored)) is not None:
            # Times that TensorRT does not accept here stay out; then this build's own replace them.
            self._cache.combine(others, ignore_mismatch=False)
        measured = self._cache.serialize()
        if measured is not None and bytes(measured) != stored:
            write_cached(self._name, bytes(measured))
