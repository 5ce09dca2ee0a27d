import subprocess
import sys

import click
import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.extract import extract
from vis4mer.cli.options import renamed_option
from vis4mer.cli.train import train


@click.command()
@click.option("--encoder-weights", "weights_file", default="none", envvar="ENCODER_WEIGHTS")
@renamed_option("--weights", "--encoder-weights")
@click.option("--readers", type=click.IntRange(min=1), default=2)
@renamed_option("--workers", "--readers")
@click.option("--cached", is_flag=True)
@renamed_option("--cache", "--cached", is_flag=True)
@click.option("--label", multiple=True)
@renamed_option("--class", "--label", multiple=True)
def command(weights_file: str, readers: int, cached: bool, label: tuple[str, ...]) -> None:
    click.echo((weights_file, readers, cached, label))


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (["--weights", "w.pt"], ["--encoder-weights", "w.pt"]),
        (["--weights=w.pt", "--workers", "3"], ["--encoder-weights=w.pt", "--readers", "3"]),
        (["--cache"], ["--cached"]),
        (["--class", "a", "--class", "b"], ["--label", "a", "--label", "b"]),
    ],
)
def test_an_old_spelling_means_the_new_option(old: list[str], new: list[str]) -> None:
    assert invoke(*old).exit_code == 0
    assert invoke(*old).stdout == invoke(*new).stdout != invoke().stdout


def test_an_old_spelling_warns_once_on_stderr_and_a_new_one_never() -> None:
    warning = "vis4mer: warning: --weights is now --encoder-weights; the next version removes the old name\n"
    assert invoke("--weights", "w.pt").stderr == warning
    assert invoke("--encoder-weights", "w.pt").stderr == invoke().stderr == ""


def test_an_old_spelling_is_not_in_the_help() -> None:
    text = invoke("--help").stdout
    assert "--encoder-weights" in text
    assert "--weights" not in text.replace("--encoder-weights", "")


def test_the_new_option_checks_the_value() -> None:
    result = invoke("--workers", "0")
    assert result.exit_code == 2
    assert "Invalid value for '--readers'" in result.stderr


def test_both_spellings_at_once_are_wrong_usage() -> None:
    result = invoke("--weights", "a", "--encoder-weights", "b")
    assert result.exit_code == 2
    assert "--weights is the former name of --encoder-weights; use only --encoder-weights" in result.stderr


def test_an_old_spelling_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENCODER_WEIGHTS", "environment")
    assert "'w.pt'" in invoke("--weights", "w.pt").stdout


def test_the_logs_of_other_libraries_are_hidden() -> None:
    program = (
        "import logging\n"
        "from vis4mer.cli.training_options import hide_library_logs\n"
        "hide_library_logs()\n"
        "import huggingface_hub, timm\n"
        "for name in ('huggingface_hub.utils._http', 'timm.models._hub'):\n"
        "    logging.getLogger(name).warning('a hint')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("command", [train, extract])
def test_shells_complete_every_path(command: click.Command) -> None:
    """A parameter that takes a file or folder has a type that shells complete."""
    words = ("FILE", "DIR", "VIDEO", "CSV", "CACHE", "PATH", "DIRECTORY")
    ctx = click.Context(command)
    for parameter in command.params:
        metavar = parameter.make_metavar(ctx)
        if any(word in metavar for word in words):
            completed = {item.type for item in parameter.type.shell_complete(ctx, parameter, "")}
            assert completed <= {"file", "dir"}, parameter.name
            assert completed, parameter.name


def test_shells_complete_the_words_for_weights_and_the_benchmarks() -> None:
    ctx = click.Context(train)
    options = {parameter.name: parameter for parameter in train.params}
    for name, start, found in (
        ("encoder_weights", "ra", ["random"]),
        ("protocol", "co", ["coin"]),
    ):
        items = options[name].type.shell_complete(ctx, options[name], start)
        assert [item.value for item in items] == found
