import gzip
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vis4mer.config import DecoderConfig, EncoderConfig, HeadConfig, ModelConfig, Preprocessing
from vis4mer.errors import CheckpointError
from vis4mer.models.checkpoint import load_checkpoint
from vis4mer.models.vis4mer import Vis4mer

ORIGINAL = Path(__file__).parents[2] / "resources" / "original" / "lvu-small" / "checkpoint.pt"
DECODER = DecoderConfig(d_input=64, l_max=34, d_output=3, d_model=16, n_layers=2, d_state=4)
CONFIG = ModelConfig(
    heads={"scene": HeadConfig(DECODER, labels=("a", "b", "c")), "director": HeadConfig(DECODER)},
    encoder=EncoderConfig("test_vit", 17, 64),
    preprocessing=Preprocessing(fps=1 / 30, height=64, width=64),
)


@pytest.fixture(scope="session")
def state() -> dict[str, Tensor]:
    return torch.load(ORIGINAL, weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Vis4mer(CONFIG).save_pretrained(tmp_path / "own")
    return tmp_path / "own"


def refused(path: Path, *parts: str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    for part in (str(path), *parts):
        assert part in message
    return message


def test_a_saved_folder_is_restored_exactly(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    expected = Vis4mer(CONFIG)
    capsys.readouterr()
    model = load_checkpoint(folder)
    assert capsys.readouterr().out == ""
    assert model.config == CONFIG
    assert not model.training
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    hub = Vis4mer.from_pretrained(folder)
    assert torch.equal(hub.heads["scene"].output.weight, expected.heads["scene"].output.weight)


def test_saving_leaves_no_temporary_file(folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]


def test_imported_original_survives_saving(tmp_path: Path, state: dict[str, Tensor]) -> None:
    model = load_checkpoint(ORIGINAL)
    model.save_pretrained(tmp_path / "own")
    again = load_checkpoint(tmp_path / "own")
    x = torch.randn(1, 1000, 64)
    assert torch.equal(again(x), model(x))
    assert again.encoder is None


@pytest.mark.parametrize("prefix", ["module.", "model.", "model.module."])
def test_prefixes_and_nesting(tmp_path: Path, state: dict[str, Tensor], prefix: str) -> None:
    nested = {"epoch": 3, "state_dict": {prefix + name: value for name, value in state.items()}}
    torch.save(nested, tmp_path / "x.ckpt")
    x = torch.randn(1, 1000, 64)
    assert torch.equal(load_checkpoint(tmp_path / "x.ckpt")(x), load_checkpoint(ORIGINAL)(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_weights(tmp_path: Path, state: dict[str, Tensor], dtype: torch.dtype) -> None:
    # The last root's z exceeds fp16's range, so nodes and z stay in fp32, like all buffers in mixed-precision training.
    half = {name: value if name.endswith((".nodes", ".z")) else value.to(dtype) for name, value in state.items()}
    torch.save(half, tmp_path / "half.pt")
    model = load_checkpoint(tmp_path / "half.pt")
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert torch.equal(model.heads["decoder"].output.weight, state["decoder.weight"].to(dtype).float())


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (lambda s: s.pop("s4_layers.1.D"), ["key='s4_layers.1.D': is missing"]),
        (lambda s: s.pop("decoder.bias"), ["key='decoder.bias': is missing"]),
        (lambda s: s.update({"extra.weight": torch.zeros(2)}), ["'extra.weight'", "remove"]),
        (lambda s: s.update({"s4_layers.1.D": torch.zeros(3)}), ["'s4_layers.1.D'", "(3,)", "(32,)"]),
        (lambda s: s.update({"s4_layers.1.D": torch.full((32,), torch.nan)}), ["'s4_layers.1.D'", "NaN"]),
        (
            lambda s: s.update({"s4_layers.0.kernel.krylov.B": torch.zeros(64, 3, 32, 2)}),
            ["krylov.B'", "[H, 2, N/2, 2]"],
        ),
        (lambda s: s.update({"s4_layers.0.kernel.krylov.nodes": torch.zeros(5, 2)}), ["krylov.nodes"]),
        (lambda s: s.update({"epoch": 3}), ["'epoch' is a int", "state_dict()"]),
    ],
)
def test_wrong_state_dicts_are_refused(
    tmp_path: Path, state: dict[str, Tensor], change: Callable, parts: list[str]
) -> None:  # type: ignore[type-arg]
    changed = dict(state)
    change(changed)
    torch.save(changed, tmp_path / "wrong.pt")
    refused(tmp_path / "wrong.pt", *parts)


class _RunsCode:
    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, ("touch executed",)


def test_a_pickle_that_runs_code_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"s4_layers.0.D": _RunsCode()}, tmp_path / "zip.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_RunsCode(), protocol=2))
    refused(tmp_path / "zip.pt", "could run code", "state_dict()")
    refused(tmp_path / "plain.pt")
    assert not (tmp_path / "executed").exists()


def test_files_without_a_state_dict_are_refused(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), str(tmp_path / "script.pt"))
    refused(tmp_path / "script.pt", "TorchScript program")
    (tmp_path / "x.pt.gz").write_bytes(gzip.compress(ORIGINAL.read_bytes()))
    refused(tmp_path / "x.pt.gz", "compressed with gzip", "decompress")
    with zipfile.ZipFile(ORIGINAL) as source, zipfile.ZipFile(tmp_path / "z.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    refused(tmp_path / "z.pt", "compressed after torch.save")
    with zipfile.ZipFile(tmp_path / "photos.pt", "w") as archive:
        archive.writestr("photos/cat.txt", "meow")
    refused(tmp_path / "photos.pt", "torch.save did not write")
    torch.save(torch.zeros(3), tmp_path / "tensor.pt")
    refused(tmp_path / "tensor.pt", "holds a Tensor")
    torch.save({}, tmp_path / "empty.pt")
    refused(tmp_path / "empty.pt", "holds nothing")
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pt")
    refused(tmp_path / "other.pt", "'s4_layers.0.D'")
    (tmp_path / "zero.pt").write_bytes(b"")
    refused(tmp_path / "zero.pt")
    refused(tmp_path / "absent.pt", "no such file")


@pytest.mark.parametrize("sixteenth", range(16))
def test_a_truncated_archive_is_refused(tmp_path: Path, sixteenth: int) -> None:
    content = ORIGINAL.read_bytes()
    (tmp_path / "cut.pt").write_bytes(content[: len(content) * sixteenth // 16])
    refused(tmp_path / "cut.pt")


def test_damaged_folders_are_refused(folder: Path) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    whole_config, whole_weights = config.read_text(), weights.read_bytes()
    for text in ("", "{", "[]", '{"heads": 3}', whole_config.replace("labels", "label"), "\xff", "[" * 10**6):
        config.write_text(text, encoding="latin-1")
        refused(folder, "config.json")
    config.write_text(whole_config)
    for sixteenth in range(16):
        weights.write_bytes(whole_weights[: len(whole_weights) * sixteenth // 16])
        refused(folder, "model.safetensors")
    weights.unlink()
    refused(folder, "has no model.safetensors")


def test_configuration_and_weights_of_different_models_are_refused(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["heads"]["scene"]["decoder"]["d_model"] = 32
    (folder / "config.json").write_text(json.dumps(config))
    refused(folder, "model.safetensors': key 'heads.scene", "check the configuration")


def test_a_refused_file_of_weights_raises_no_warning(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    """PyTorch warns of a pickle's protocol, and of sparse tensors."""
    (tmp_path / "new.pt").write_bytes(pickle.dumps({"s4_layers.0.D": object}, protocol=5))
    torch.save({"s4_layers.0.D": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    for name in ("new.pt", "sparse.pt"):
        refused(tmp_path / name)
    assert [str(warning.message) for warning in recwarn if "deprecated" not in str(warning.message)] == []
