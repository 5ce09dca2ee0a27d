import json
import sys
from importlib import metadata
from pathlib import Path

import pytest

from vis4mer.errors import MissingDependencyError
from vis4mer.packages import install_command, missing, require, requirements


@pytest.fixture
def from_index(monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution that pip installed from a package index."""
    monkeypatch.setattr("vis4mer.packages._SOURCES", Path("/usr/lib/python3/dist-packages"))
    installed_from(monkeypatch, None)


def installed_from(monkeypatch: pytest.MonkeyPatch, record: str | None) -> None:
    """Makes `record` what pip has recorded about the origin of the distribution."""

    class Distribution:
        def read_text(self, name: str) -> str | None:
            assert name == "direct_url.json"
            return record

    monkeypatch.setattr(metadata, "distribution", lambda name: Distribution())


def make_checkout(folder: Path) -> Path:
    (folder / "toolkit" / "vis4mer").mkdir(parents=True)
    (folder / "setup.cfg").touch()
    return folder


@pytest.mark.usefixtures("from_index")
def test_the_error_names_package_purpose_and_remedies() -> None:
    assert str(missing("torch", "to train", "train")) == (
        "package='torch': is needed to train; pip install 'vis4mer[train]'"
    )
    assert str(missing("torch", "to run a pt2 bundle", "torch", "export to ONNX")) == (
        "package='torch': is needed to run a pt2 bundle; pip install 'vis4mer[torch]', or export to ONNX"
    )


def test_installed_packages_are_not_an_error() -> None:
    require("numpy", "click", purpose="to test", extra="torch")


def test_a_checkout_installs_extras_from_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "my checkout")
    monkeypatch.setattr("vis4mer.packages._SOURCES", checkout)
    monkeypatch.chdir(tmp_path)
    assert install_command("torch") == f"pip install -e '{checkout}[torch]'"
    monkeypatch.chdir(checkout)
    assert install_command("torch") == "pip install -e '.[torch]'"


@pytest.mark.usefixtures("from_index")
def test_what_a_checkout_installed_installs_extras_from_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path / "my checkout")
    record = json.dumps({"url": checkout.as_uri(), "dir_info": {}})
    installed_from(monkeypatch, record)
    assert install_command("torch") == f"pip install '{checkout}[torch]'"
    monkeypatch.chdir(checkout)
    assert install_command("torch") == "pip install '.[torch]'"
    (checkout / "setup.cfg").unlink()
    assert install_command("torch") == "pip install 'vis4mer[torch]'", "the checkout has been removed"


@pytest.mark.usefixtures("from_index")
@pytest.mark.parametrize("record", [None, "damaged", '{"url": "file:///a/vis4mer-1.whl", "archive_info": {}}'])
def test_everything_else_installs_extras_from_the_index(monkeypatch: pytest.MonkeyPatch, record: str | None) -> None:
    installed_from(monkeypatch, record)
    assert install_command("torch") == "pip install 'vis4mer[torch]'"


@pytest.mark.usefixtures("from_index")
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
