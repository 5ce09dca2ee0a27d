"""Packages that this distribution needs: what each extra installs, and errors that name the extra to install."""

import importlib
import json
import shlex
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vis4mer.errors import MissingDependencyError

_DISTRIBUTION = "vis4mer"
_DEVELOPMENT_EXTRAS = ("docs", "test")
_SOURCES = Path(__file__).resolve().parents[2]  # of this package, if it is not in site-packages


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
    remedy = install_command(extra) + (f", or {alternative}" if alternative else "")
    return MissingDependencyError.of("package", package, f"is needed {purpose}", remedy)


def install_command(extra: str) -> str:
    """Returns the command that installs an extra from where this distribution came: a package index, or a checkout.

    It is correct in any current folder, so it contains the checkout's path unless that is the current one.
    """
    checkout, editable = _checkout()
    if checkout is None:
        return f"pip install '{_DISTRIBUTION}[{extra}]'"
    option = "-e " if editable else ""
    if checkout == Path.cwd():
        return f"pip install {option}'.[{extra}]'"
    return f"pip install {option}{shlex.quote(f'{checkout}[{extra}]')}"


def _checkout() -> tuple[Path | None, bool]:
    """Returns the checkout that this distribution runs from or was installed from, and whether it is editable."""
    if _holds_sources(_SOURCES):
        return _SOURCES, True
    # PEP 610: pip records where it found a distribution that does not come from an index.
    try:
        record = json.loads(metadata.distribution(_DISTRIBUTION).read_text("direct_url.json") or "{}")
        folder = Path(url2pathname(urlsplit(record["url"]).path)) if "dir_info" in record else None
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        folder = None
    return (folder if folder is not None and _holds_sources(folder) else None), False


def _holds_sources(folder: Path) -> bool:
    return (folder / "setup.cfg").is_file() and (folder / "toolkit" / _DISTRIBUTION).is_dir()


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
