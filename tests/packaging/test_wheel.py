import shutil
import subprocess
import sys
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = {"vis4mer": "toolkit", "vis4mer_export": "export", "vis4mer_kernels": "kernels"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, since a build leaves folders behind where it runs."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "build")
    for folder in (*SOURCES.values(), "samples/bundle"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignored)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", copy.parent, copy],
        check=True,
        capture_output=True,
    )
    (path,) = copy.parent.glob("vis4mer-*.whl")
    return zipfile.ZipFile(path)


def test_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {f"vis4mer_sample_bundle/{path.name}" for path in (ROOT / "samples" / "bundle").iterdir()}
    csrc = ROOT / "kernels" / "csrc"
    expected |= {f"vis4mer_kernels_csrc/{path.relative_to(csrc)}" for path in csrc.rglob("*.*")}
    noto_sans = ROOT / "toolkit" / "vis4mer" / "timeline" / "noto_sans"
    expected |= {f"vis4mer/timeline/noto_sans/{path.name}" for path in noto_sans.iterdir()}
    expected.add("vis4mer/video/pictures.ptx")
    for package, folder in SOURCES.items():
        root = ROOT / folder
        expected |= {str(path.relative_to(root)) for path in (root / package).rglob("*.py")}
        expected.add(f"{package}/py.typed")
    assert packed == expected


def test_is_pure_and_carries_its_licence(wheel: zipfile.ZipFile) -> None:
    (metadata,) = (name for name in wheel.namelist() if name.endswith(".dist-info/WHEEL"))
    assert "py3-none-any" in wheel.read(metadata).decode()
    assert any(name.endswith("LICENSE") for name in wheel.namelist())


def test_entry_points_exist(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    parser = ConfigParser()
    parser.read_string(wheel.read(name).decode())
    scripts = dict(parser["console_scripts"])
    assert sorted(scripts) == ["vis4mer", "vis4mer-export", "vis4mer-run"]
    for target in scripts.values():
        module, _, function = target.partition(":")
        assert f"def {function}(" in wheel.read(module.replace(".", "/") + ".py").decode()


def test_base_install_is_a_serving_machine_without_torch(wheel: zipfile.ZipFile) -> None:
    (name,) = (name for name in wheel.namelist() if name.endswith("METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode())
    base = {line.split(";")[0] for line in metadata.get_all("Requires-Dist") or [] if "extra ==" not in line}
    names = {line.split(">")[0].split("<")[0].split("=")[0].strip() for line in base}
    assert names == {"numpy", "av", "click", "packaging", "pillow", "rich", "onnxruntime-gpu", "onnxruntime"}
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert extras == {"torch", "export", "train", "cuda", "dali", "docs", "trt", "rtx", "test", "all"}
    tested = [line for line in metadata.get_all("Requires-Dist") or [] if "extra == 'test'" in line.replace('"', "'")]
    assert not [line for line in tested if line.startswith(("tensorrt ", "tensorrt>"))]
