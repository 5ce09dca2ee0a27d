import sys
from importlib import metadata

import pytest

from vis4mer.errors import MissingDependencyError
from vis4mer.packages import missing, require, requirements


def test_the_error_names_package_purpose_and_remedies() -> None:
    assert str(missing("torch", "to train", "train")) == (
        "package='torch': is needed to train; pip install 'vis4mer[train]'"
    )
    assert str(missing("torch", "to run a pt2 bundle", "torch", "export to ONNX")) == (
        "package='torch': is needed to run a pt2 bundle; pip install 'vis4mer[torch]', or export to ONNX"
    )


def test_installed_packages_are_not_an_error() -> None:
    require("numpy", "click", purpose="to test", extra="torch")


def test_the_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "colorsys", None)
    with pytest.raises(
        MissingDependencyError, match=r"package='colorsys': is needed to test; pip install 'vis4mer\[x\]'"
    ):
        require("numpy", "colorsys", purpose="to test", extra="x")


def test_requirements_are_those_of_the_installed_distribution() -> None:
    extras = requirements()
    assert {"numpy", "av", "click"} <= set(extras[""])
    assert len([name for name in extras[""] if name.startswith("onnxruntime")]) == 1, "markers select one of two"
    assert "torch" in extras["torch"]
    assert extras["export"][:1] != ["vis4mer"] and "torch" not in extras["export"], "an included extra is not repeated"
    assert "test" not in extras
    names = [name for extra in extras.values() for name in extra]
    assert len(names) == len(set(names))


def test_sources_without_an_installation_have_no_requirements(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "requires", absent)
    assert requirements() == {}
