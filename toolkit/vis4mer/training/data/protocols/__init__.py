"""Published benchmarks by name: the nine tasks of LVU (``lvu/relationship`` and so on), ``breakfast`` and ``coin``."""

from vis4mer.errors import ConfigError
from vis4mer.training.data.protocols import breakfast, coin, lvu
from vis4mer.training.data.protocols.protocol import Protocol

__all__ = ["PROTOCOLS", "Protocol", "find_protocol"]

PROTOCOLS = {protocol.name: protocol for protocol in (*lvu.PROTOCOLS, *breakfast.PROTOCOLS, *coin.PROTOCOLS)}


def find_protocol(name: str) -> Protocol:
    """Returns the protocol called `name`.

    Raises:
        ConfigError: There is no such protocol.
    """
    if name not in PROTOCOLS:
        raise ConfigError.of("protocol", name, f"must be one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
