"""Packages that this distribution needs: what each extra installs, and errors that name the extra to install."""

import importlib
from importlib import metadata

from vis4mer.errors import MissingDependencyError

_DISTRIBUTION = "vis4mer"
_DEVELOPMENT_EXTRAS = ("docs", "test")


def missing(package: str, purpose: str, extra: str, alternative: str = "") -> MissingDependencyError:
    """Builds the error for a package that is not installed.

    Args:
        package: Name of the absent package.
        purpose: Use of the package, such as ``to load a checkpoint``.
        extra: Extra of this distribution that installs it.
        alternative: Another remedy, as an imperative.

    Returns:
        The error, for the caller to raise.
    """
    remedy = f"pip install '{_DISTRIBUTION}[{extra}]'" + (f", or {alternative}" if alternative else "")
    return MissingDependencyError.of("package", package, f"is needed {purpose}", remedy)


def require(*packages: str, purpose: str, extra: str, alternative: str = "") -> None:
    """Imports packages, so that a command fails before its work and not in the middle of it.

    Args:
        *packages: Names to import.
        purpose: Use of the packages, such as ``to load a checkpoint``.
        extra: Extra of this distribution that installs them.
        alternative: Another remedy, as an imperative.

    Raises:
        MissingDependencyError: One of them, or a package that it imports, is not installed.
    """
    for package in packages:
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise missing(error.name or package, purpose, extra, alternative) from None


def requirements() -> dict[str, list[str]]:
    """Returns the distributions that each extra installs on this machine, as the installed metadata declare them.

    The base install's key is the empty string. Extras for developers are left out. The result is empty where this
    project runs from its sources without an installation.
    """
    from packaging.requirements import Requirement

    try:
        declared = [Requirement(text) for text in metadata.requires(_DISTRIBUTION) or ()]
        extras = metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    names: dict[str, list[str]] = {}
    listed: set[str] = set()
    for extra in ("", *extras):
        if extra in _DEVELOPMENT_EXTRAS:
            continue
        for requirement in declared:
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": extra})
            # Extras include one another, and every extra includes the base install: each name is listed once.
            if applies and requirement.name not in {_DISTRIBUTION, *listed}:
                names.setdefault(extra, []).append(requirement.name)
                listed.add(requirement.name)
    return names
