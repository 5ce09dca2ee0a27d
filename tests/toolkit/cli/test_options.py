import click
import pytest
from click.testing import CliRunner, Result

from vis4mer.cli.options import renamed_option


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
