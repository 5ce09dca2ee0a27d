"""Settings of a training run as a YAML file.

A file need not hold all settings; the others take the values of the published benchmark that it names, or their
defaults. Relative paths start at the file's folder::

    data: {movies: movies.csv}
    encoder: {name: vit_small_patch16_224}
    training: {epochs: 20, lr: 3e-3}
"""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from vis4mer.errors import ConfigError
from vis4mer.text import one_line
from vis4mer.training.mapping import merged
from vis4mer.training.settings import TrainSettings, absolute_paths

SETTINGS_FILE = "settings.yaml"
"""Name of the file in a run's folder that holds the run's settings."""


def read_settings(path: Path, changes: Mapping[str, Any] | None = None) -> TrainSettings:
    """Reads a settings file.

    Args:
        path: YAML file.
        changes: Settings that override the file's, in the form of `TrainSettings.to_dict`; their relative paths start
            at the working directory.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, or a value has the wrong type or breaks its
            rule; the message names the file and the key.
    """
    values = absolute_paths(_load(path), path.absolute().parent)
    values = merged(values, absolute_paths(changes or {}, Path.cwd()))
    try:
        return TrainSettings.from_dict(values)
    except ConfigError as error:
        raise ConfigError(f"config={str(path)!r}: {error}") from None


def dump_settings(settings: TrainSettings) -> str:
    """Returns settings as YAML that `read_settings` reads back from any folder to equal settings."""
    text: str = yaml.safe_dump(settings.with_absolute_paths().to_dict(), sort_keys=False, allow_unicode=True)
    return text


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, which also reads 1e-3 as a number and rejects a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} occurs twice", node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


# YAML 1.1, the version that PyYAML reads, takes 1e-3 for text because it has no dot.
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _load(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError.of("config", path, "no such file", "pass a YAML file of settings") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of("config", path, f"cannot be read ({error})", "pass a YAML file of settings") from None
    except yaml.YAMLError as error:
        raise ConfigError.of("config", path, f"not YAML ({one_line(str(error))})", "correct the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError.of("config", path, "must be a mapping with keys such as 'data'")
    return values
