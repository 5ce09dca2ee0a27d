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
from vis4mer.training.settings import TrainSettings, absolute_paths, section


def read_settings(path: Path, changes: Mapping[str, Any] | None = None) -> TrainSettings:
    """Reads a settings file.

    Args:
        path: YAML file.
        changes: Settings that override the file's, in the form of `TrainSettings.to_dict`; their relative paths start
            at the working directory. If they name a data set, it replaces the file's section ``data`` as a whole.

    Raises:
        ConfigError: The file cannot be read, a key is unknown or missing, a value has the wrong type or breaks its
            rule, or `changes` leave the file's benchmark; the message names the file and the key.
    """
    values = absolute_paths(_load(path), path.absolute().parent)
    try:
        return TrainSettings.from_dict(_overridden(values, absolute_paths(changes or {}, Path.cwd())))
    except ConfigError as error:
        raise ConfigError.of("config", path, str(error)) from None


def dump_settings(settings: TrainSettings) -> str:
    """Returns settings as YAML that `read_settings` reads back from any folder to equal settings."""
    values = settings.with_absolute_paths().to_dict()
    text: str = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return text


def _overridden(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a file's settings with changes.

    A benchmark prescribes settings, and a stored file holds all of them, so they are not mixed with another data set's.
    """
    before, after = section(values, "data"), section(changes, "data")
    if not _names_data_set(after):
        return merged(values, changes)
    if _names_data_set(before) and before.get("protocol") != after.get("protocol"):
        raise ConfigError.of(
            "data.protocol",
            after.get("protocol"),
            f"the file's settings belong to its own data set, whose protocol is {before.get('protocol')!r}",
            "leave out --config, or remove 'data' from a copy of the file",
        )
    return merged({name: value for name, value in values.items() if name != "data"}, changes)


def _names_data_set(data: Mapping[str, Any]) -> bool:
    return data.get("movies") is not None or data.get("protocol") is not None


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """PyYAML's safe loader, which also reads 1e-3 as a number and rejects a key that occurs twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        # PyYAML itself silently keeps the last of several equal keys.
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for name in names:
            if names.count(name) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} occurs twice", node.start_mark)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """PyYAML's safe dumper, which quotes text that `_Loader` would read as a number."""


def _represent_text(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # In other than double quotes, YAML reads a next-line character or a Unicode line separator as a blank.
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if text.isprintable() else '"')


_Dumper.add_representer(str, _represent_text)

# YAML 1.1, the version that PyYAML reads, takes 1e-3 for text because it has no dot.
for _yaml_class in (_Loader, _Dumper):
    # PyYAML tries a resolver only on text that begins with one of its characters.
    _yaml_class.add_implicit_resolver(
        "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except FileNotFoundError:
        raise ConfigError.of("config", path, "no such file", "pass a YAML file of settings") from None
    except RecursionError:
        raise ConfigError.of("config", path, "is nested too deeply", "correct the file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError.of("config", path, f"cannot be read ({error})", "pass a YAML file of settings") from None
    except (yaml.YAMLError, ValueError) as error:  # PyYAML raises ValueError for the 13th month
        raise ConfigError.of("config", path, f"not YAML ({one_line(str(error))})", "correct the file") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError.of("config", path, "must be a mapping with keys such as 'data'")
    return values
