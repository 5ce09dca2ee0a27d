"""The long-range benchmark asks what it says: right tokens, fair contestants, all runs, honest tables."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from long_range import report, runs, training
from long_range.contestants import (
    ABLATIONS,
    CONTESTANTS,
    AblatedDecoder,
    Contestant,
    PooledMLP,
    UnpooledBlock,
    decoder_config,
)
from long_range.footage import FEATURES, TOKENS, Footage, Movies
from long_range.runs import ABLATED_ON, Journal, Run, Size, Studio, plan
from torch import nn

from vis4mer.devices.device import CPU
from vis4mer.models.decoder import Block, S4Decoder
from vis4mer.runtime.backends.registry import open_graph
from vis4mer.runtime.bundle import Bundle
from vis4mer.training.config import TrainConfig
from vis4mer.video.reader import open_video
from vis4mer.video.resize import resize

# Importing `long_range` makes the samples' package importable.
from cottage.film import Format, render, write  # isort: skip
from cottage.tales import GAPS, QUESTIONS, tell  # isort: skip

SIZE = Size(train=2, val=1, test=1, epochs=1, seeds=2)


@pytest.fixture(scope="module")
def footage() -> Footage:
    return Footage()


def test_tokens_are_those_of_the_whole_movie(footage: Footage, tmp_path: Path) -> None:
    """Cut from scenes that were encoded alone, they are the encoder's of the movie, and nearly so of its file."""
    tale = tell("story", 10, 3)
    rows = footage.shoot(tale)
    tokens = footage.tokens[rows]
    bundle = Bundle.open(Path(__file__).parents[2] / "samples" / "bundle")
    encoder, preprocessing = open_graph(bundle, "encoder", CPU), bundle.model.preprocessing
    drawn = np.stack([resize(np.moveaxis(p, 2, 0), preprocessing) for p in render(tale, Format(fps=1))])
    write(tale, tmp_path / "movie.mp4", Format(fps=1))
    with open_video(tmp_path / "movie.mp4", preprocessing) as reader:
        filmed = np.concatenate([batch.frames for batch in reader])
    for frames, tolerance in ((drawn, 1e-5), (filmed, 0.02)):
        expected = torch.from_numpy(encoder(frames)).mean(dim=1, keepdim=True)
        assert tokens.shape == expected.shape == (112, TOKENS, FEATURES)
        assert (tokens - expected).norm() < tolerance * expected.norm()


def test_a_scene_is_shot_once(footage: Footage) -> None:
    movies = footage.movies("count", (10, 80), range(3))
    shot = len(footage.tokens)
    again = footage.movies("count", (10, 80), range(3))
    assert len(footage.tokens) == shot
    assert torch.equal(movies.rows, again.rows)
    assert movies.rows.shape == (6, 112)
    assert movies.gaps.tolist() == [10, 80] * 3
    labels = [tell("count", gap, seed).label for seed in range(3) for gap in (10, 80)]
    assert [QUESTIONS["count"].labels[target] for target in movies.targets] == labels


@pytest.mark.parametrize("question", QUESTIONS)
def test_contestants_are_of_one_size(question: str) -> None:
    labels = len(QUESTIONS[question].labels)
    sizes = [sum(p.numel() for p in c.build(labels).parameters()) for c in CONTESTANTS.values()]
    assert max(sizes) < 1.15 * min(sizes)


@pytest.mark.parametrize("name", [*CONTESTANTS, *ABLATIONS])
def test_contestants_learn_from_all_tokens(name: str) -> None:
    contestant = {**CONTESTANTS, **ABLATIONS}[name]
    model = contestant.build(3).eval()
    features = torch.randn(2, contestant.frames * TOKENS, FEATURES, requires_grad=True)
    logits = model(features)
    logits.square().sum().backward()
    assert logits.shape == (2, 3)
    assert features.grad is not None
    assert (features.grad.abs().sum(dim=-1) > 0).all()


def test_only_the_pooled_mlp_is_blind_to_order() -> None:
    features = torch.randn(1, 112 * TOKENS, FEATURES)
    for name in ("ViS4mer", "Transformer", "mean-pooled MLP"):
        model = CONTESTANTS[name].build(2).eval()
        assert torch.allclose(model(features), model(features.flip(1)), atol=1e-5) == isinstance(model, PooledMLP)


def test_nothing_ablated_is_the_decoder() -> None:
    torch.manual_seed(0)
    config = decoder_config(2)
    whole = S4Decoder(config).eval()
    ablated = AblatedDecoder(config, pooling=True, reduction=True).eval()
    ablated.load_state_dict(whole.state_dict())
    features = torch.randn(2, config.l_max, FEATURES)
    assert torch.equal(ablated(features), whole(features))


@pytest.mark.parametrize(("pooling", "reduction"), [(False, True), (True, False), (False, False)])
def test_ablated_blocks_keep_length_and_width(pooling: bool, reduction: bool) -> None:
    model = AblatedDecoder(decoder_config(2), pooling=pooling, reduction=reduction)
    x = torch.randn(1, 112, 64)
    for depth, block in enumerate(model.blocks, start=1):
        x = block(x)
        assert x.shape == (1, 112 >> depth if pooling else 112, 64 >> depth if reduction else 64)


def test_pooling_what_the_unpooled_block_keeps_gives_the_block() -> None:
    torch.manual_seed(0)
    pooled, unpooled = (kind(8, 4, 30, 0.1, "exact").eval() for kind in (Block, UnpooledBlock))
    unpooled.load_state_dict(pooled.state_dict())
    outputs = []  # of the linear layer, which pooling commutes with
    for block in (pooled, unpooled):
        block.reduce.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = torch.randn(2, 30, 8)
    pooled(x), unpooled(x)
    assert torch.allclose(outputs[0], outputs[1].unflatten(1, (15, 2)).mean(dim=2), atol=1e-6)


class Reader(nn.Module):
    """Says 1 where a token of its window holds a 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def ssm_parameters(self) -> list[nn.Parameter]:
        return []

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        score = self.weight * (features.amax(dim=(1, 2)) - 0.5)
        return torch.stack([-score, score], dim=1)


def _marked() -> tuple[Movies, torch.Tensor]:
    """Movies of 112 frames, in every second of which one frame holds a 1."""
    tokens = torch.zeros(2, TOKENS, FEATURES)
    tokens[1] = 1
    rows = torch.zeros(8, 112, dtype=torch.int64)
    rows[torch.arange(0, 8, 2), torch.tensor([0, 30, 60, 111])] = 1
    return Movies(rows, torch.tensor([1, 0] * 4), torch.full((8,), 10)), tokens


def test_windows_of_a_movie_vote() -> None:
    """A mark is in five of 52 windows of 10 s at most: who sees movies whole finds all, who sees windows none."""
    movies, tokens = _marked()
    whole = training.right(Reader(), Contestant(lambda _: Reader()), movies, tokens)
    assert whole.all()
    excerpts = training.right(Reader(), Contestant(lambda _: Reader(), frames=10), movies, tokens)
    assert excerpts.tolist() == [False, True] * 4


def test_training_learns_and_follows_its_seed() -> None:
    movies, tokens = _marked()
    config = TrainConfig(epochs=60, batch_size=8, lr=3e-3, seed=1)
    entrant = CONTESTANTS["mean-pooled MLP"]
    tokens[1] *= 20
    first, second = (training.train(entrant, 2, movies, tokens, config) for _ in range(2))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert training.right(first, entrant, movies, tokens).all()


def _result(val: float) -> runs.Result:
    return {"parameters": 7, "seconds": 1.0, "val": val, "accuracy": {str(gap): val for gap in GAPS}}


def _done(size: Size, journal: Journal) -> list[Run]:
    """All runs of a plan, where the lower rate is the better one for the Transformer alone."""
    done = []
    for run in plan(size, journal):
        journal.add(run, _result((1 if run.entrant == "Transformer" else -1) / (run.lr * 1000) / 10 + run.seed / 10))
        done.append(run)
    return done


def test_the_first_seed_tries_all_rates_and_the_others_the_best(tmp_path: Path) -> None:
    done = _done(SIZE, Journal(tmp_path / "journal"))
    assert len(done) == len(set(done))
    for name in runs.ENTRANTS:
        tried, best = ({1e-3, 3e-3}, 1e-3) if name == "Transformer" else ({3e-3}, 3e-3)
        for question in QUESTIONS:
            rates = [{run.lr for run in done if run[:3] == (question, name, seed)} for seed in (0, 1)]
            asked = name in CONTESTANTS or question in ABLATED_ON
            assert rates == ([tried, {best}] if asked else [set(), set()])


def test_an_interrupted_benchmark_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Run] = []

    def run(self: Studio, run: Run) -> runs.Result:
        if len(asked) == 5:
            raise KeyboardInterrupt
        asked.append(run)
        return _result(0.5)

    monkeypatch.setattr(Studio, "run", run)
    with pytest.raises(KeyboardInterrupt):
        runs.perform(SIZE, tmp_path)
    first, asked[:] = list(asked), []
    monkeypatch.setattr(Studio, "run", lambda self, run: asked.append(run) or _result(0.5))
    journal = runs.perform(SIZE, tmp_path)
    assert not set(first) & set(asked)
    assert set(journal.results) == {*first, *asked}
    assert runs.perform(SIZE, tmp_path).results == journal.results


def test_a_studio_trains_and_asks() -> None:
    result = Studio(SIZE).run(Run("order", "ViS4mer, 10 s excerpts", 0, 3e-3))
    assert 37_000 < result["parameters"] < 38_000
    assert set(result["accuracy"]) == {"10", "20", "40", "80"}
    assert set(result["accuracy"].values()) <= {0.0, 1.0}  # one movie of each gap


def test_tables_and_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "journal")
    _done(SIZE, journal)
    rows = report.tabulate(journal, SIZE, QUESTIONS, CONTESTANTS)
    assert [(row["question"], row["entrant"]) for row in rows] == [(q, c) for q in QUESTIONS for c in CONTESTANTS]
    assert rows[1]["lr"] == 1e-3
    assert np.allclose(rows[1]["accuracy"]["80"], [0.1, 0.2])
    report.show(rows[1:2], dict.fromkeys(CONTESTANTS, 1.5))
    _, line = capsys.readouterr().out.splitlines()
    assert line.count("15.0 (10-20)") == 4
    for name in ("first.png", "second.png"):
        report.plot(rows, tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "second.png").read_bytes()


def test_committed_results_are_the_commands() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "long_range.json"
    result = json.loads(path.read_text())
    assert result["size"] == dataclasses.asdict(Size())
    rows = {(row["question"], row["entrant"]) for row in result["rows"]}
    assert rows == {(question, name) for question in QUESTIONS for name in CONTESTANTS}
    assert {row["entrant"] for row in result["ablations"]} == {"ViS4mer", *ABLATIONS}
    assert {row["question"] for row in result["ablations"]} <= set(ABLATED_ON)
    for row in (*result["rows"], *result["ablations"]):
        assert list(row["accuracy"]) == [str(gap) for gap in GAPS]
    assert {len(values) for row in result["rows"] for values in row["accuracy"].values()} == {Size().seeds}
