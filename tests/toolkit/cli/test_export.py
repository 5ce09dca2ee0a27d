"""Usage errors of `vis4mer export`, which come before any work: none of these checkpoints exists."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

import vis4mer
from vis4mer.cli.main import main
from vis4mer.errors import ConfigError, MissingDependencyError
from vis4mer.packages import install_command


def export(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["export", "--checkpoint", "none", "--output", "nowhere", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "onnx", "--gpu", "sm86"], "--gpu='sm86': format onnx does not take this option; leave it out"),
        (["--format", "trt", "--gpu", "sm86"], "--gpu='sm86': format trt does not take this option"),
        (["--format", "torchscript", "--batch-size", "4"], "--batch-size='4': format torchscript does not take"),
        (["--format", "pt2", "--batch-size", "1:1:32"], "--batch-size='1:1:32': format pt2 does not take"),
        (["--format", "onnx", "--device", "cpu"], "--device='cpu': format onnx does not take"),
        (["--format", "trt-rtx", "--batch-size", "8:4:1"], "--batch-size='8:4:1': must be MIN:OPT:MAX with 1 <= MIN"),
        (["--format", "trt", "--batch-size", "many"], "--batch-size='many': must be N or MIN:OPT:MAX"),
        (["--format", "pt2", "--device", "abacus"], "--device='abacus': must be cpu, cuda or cuda:N"),
        (["--format", "trt", "--head-batch-size", "0"], "--head-batch-size='0': must be MIN:OPT:MAX with 1 <= MIN"),
        (["--format", "trt-rtx", "--optimization-level", "3"], "--optimization-level='3': format trt-rtx does not"),
        (["--format", "onnx", "--lowering", "fft"], "--lowering='fft': format onnx cannot run it"),
        (["--format", "pickle"], "'pickle' is not one of 'torchscript', 'pt2', 'onnx', 'trt', 'trt-rtx'"),
        (["--format", "onnx", "--encoder-weights", "hub"], "--encoder-weights requires --encoder"),
        (["--format", "onnx", "--labels", " , "], "' , ' must hold names, separated by commas"),
        ([], "Missing option '--format'"),
    ],
)
def test_options_that_a_format_does_not_take_are_usage_errors(arguments: list[str], message: str) -> None:
    result = export(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr


def test_the_help_lists_the_formats_and_the_options_of_each() -> None:
    words = " ".join(CliRunner().invoke(main, ["export", "--help"], terminal_width=200).stdout.split())
    assert "--format [torchscript|pt2|onnx|trt|trt-rtx]" in words
    for text in (
        "Frames at once that the encoder's engine takes and is tuned for. Only with --format trt or trt-rtx. "
        "[default: 1:32:32]",
        "Windows at once that a head's engine takes and is tuned for. Only with --format trt or trt-rtx. "
        "[default: 1:1:4]",
        "by default the first. Only with --format pt2, trt or trt-rtx.",
        "Precision of weights and matrix products. [default: fp32; fp16 with trt and trt-rtx,",
    ):
        assert text in words


def test_the_python_api_refuses_the_same() -> None:
    with pytest.raises(ConfigError, match="gpu='sm86': format onnx does not take this option"):
        vis4mer.export("none", "nowhere", gpu="sm86")
    with pytest.raises(ConfigError, match="batch_size='8:4:1'"):
        vis4mer.export("none", "nowhere", format="trt", batch_size="8:4:1")
    with pytest.raises(ConfigError, match="precision='int8': format onnx supports fp32, fp16, bf16"):
        vis4mer.export("none", "nowhere", precision="int8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="encoder_weights='hub': applies only to an encoder"):
        vis4mer.export("none", "nowhere", encoder_weights="hub")
    with pytest.raises(ConfigError, match="format='pickle': must be one of torchscript"):
        vis4mer.export("none", "nowhere", format="pickle")


def test_without_pytorch_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "vis4mer_export.exporter", None)
    with pytest.raises(MissingDependencyError, match=re.escape(f"is needed to export; {install_command('export')}")):
        vis4mer.export("none", tmp_path / "nowhere")
    result = export("--format", "onnx")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["--checkpoint", "--head"])
def test_what_is_passed_by_mistake_for_a_checkpoint_has_its_own_message(
    option: str, tiny_bundle: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    (run / "best").mkdir(parents=True)
    (run / "best" / "config.json").touch()
    for path, message in (
        (tiny_bundle, "is a bundle, which has been exported already; pass the checkpoint that it was made from"),
        (run, f"is the folder of a training run, not a model; pass its best model, '{run / 'best'}'"),
    ):
        arguments = ["--format", "onnx", "--output", str(tmp_path / "new")]
        arguments += ["--checkpoint", str(path)] if option == "--checkpoint" else ["--head", f"other={path}"]
        if option == "--head":
            arguments += ["--checkpoint", "none"]
        result = CliRunner().invoke(main, ["export", *arguments])
        name = "--checkpoint" if option == "--checkpoint" else "--head='other': checkpoint"
        assert result.exit_code == 1
        assert result.stderr == f"vis4mer: error: {name}='{path}': {message}\n"


def test_an_existing_bundle_is_refused_before_pytorch_is_imported(tiny_bundle: Path) -> None:
    code = "import sys, vis4mer\ntry: vis4mer.export('none', sys.argv[1])\n"
    code += "except vis4mer.errors.BundleError as error: print(error, 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(tiny_bundle)], capture_output=True, text=True, check=True)
    assert "holds a bundle already; choose another folder, or pass --force" in done.stdout
    assert done.stdout.endswith("False\n")


def test_the_compiler_s_warning_of_a_missing_gpu_is_silenced(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = "from vis4mer.runtime.backends.pt2 import quiet_inductor\nimport torch\n"
    code += "with quiet_inductor():\n    import torch.utils.cpp_extension"
    environment = {**os.environ, "CUDA_HOME": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stderr == ""


def test_every_path_completes() -> None:
    """Shells complete the names of files for parameters of the type Path."""
    command = main.get_command(click.Context(main), "export")
    assert command is not None
    params = {param.name: param for param in command.get_params(click.Context(command))}
    for name in ("checkpoint", "output", "movie", "encoder_weights"):
        assert isinstance(params[name].type, click.Path), name
    for name in ("verify", "inspect"):
        command = main.get_command(click.Context(main), name)
        assert command is not None
        assert isinstance(command.params[0].type, click.Path), name
