"""Formats of other distributions, which announce them by entry points of the group ``vis4mer.targets``."""

import logging
import threading
from importlib.metadata import EntryPoint, entry_points

from vis4mer.text import first_line

GROUP = "vis4mer.targets"

logger = logging.getLogger(__name__)

# Re-entrant: a plug-in registers its format with the registries, which load plug-ins.
_lock = threading.RLock()
_loaded = False


def load_plugins() -> None:
    """Calls the function of every entry point of the group, once per process, so that it can register its formats.

    A plug-in that fails is skipped with a warning that names it: it must not keep the other formats from working.
    """
    global _loaded
    with _lock:
        if _loaded:
            return
        _loaded = True
        for plugin in entry_points(group=GROUP):
            try:
                plugin.load()()
            except Exception as error:  # a plug-in may raise anything
                logger.warning("plug-in %s cannot be loaded: %s", _described(plugin), first_line(error))


def _described(plugin: EntryPoint) -> str:
    distribution = f" of {plugin.dist.name}" if plugin.dist is not None else ""
    return f"{plugin.name}={plugin.value}{distribution}"
