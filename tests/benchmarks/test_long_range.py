"""The long-range benchmark: tokens equal the movie's, entrants are comparable, all runs happen, tables are correct."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.recall import runs, table, training
from benchmarks.recall.entrants import (
    ABLATIONS,
    ENTRANTS,
    MODELS,
    AblatedDecoder,
    Entrant,
    PooledMLP,
    UnpooledBlock,
    decoder_config,
)
from benchmarks.recall.runs import ABLATED_ON, Journal, Run, Size, Trainer, count, plan
from benchmarks.recall.tokens import FEATURES, TOKENS, Movies, SceneTokens
from samples.generator.film import Format, render, write
from samples.generator.questions import GAPS, QUESTIONS, write_script
from vis4mer.devices.device import CPU
from vis4mer.models.decoder import Block, S4Decoder
from vis4mer.runtime.bundle import Bundle
from vis4mer.training.config import TrainConfig
from vis4mer.video.reader import open_video
from vis4mer.video.resize import resize

SIZE = Size(train=2, val=1, test=1, epochs=1, seeds=2)


@pytest.fixture(scope="module")
def scenes() -> SceneTokens:
    return SceneTokens()


def test_tokens_of_scenes_equal_those_of_the_whole_movie(scenes: SceneTokens, tmp_path: Path) -> None:
    """Tokens of scenes encoded alone equal those of the rendered movie, and are close to those of its file."""
    script = write_script("story", 10, 3)
    rows = scenes.rows(script)
    tokens = scenes.tokens[rows]
    bundle = Bundle.open(Path(__file__).parents[2] / "samples" / "bundle")
    encoder, preprocessing = bundle.open_graph("encoder", CPU), bundle.model.preprocessing
    drawn = np.stack([resize(np.moveaxis(p, 2, 0), preprocessing) for p in render(script, Format(fps=1))])
    write(script, tmp_path / "movie.mp4", Format(fps=1))
    with open_video(tmp_path / "movie.mp4", preprocessing) as reader:
        filmed = np.concatenate([batch.frames for batch in reader])
    for frames, tolerance in ((drawn, 1e-5), (filmed, 0.02)):
        expected = torch.from_numpy(encoder(frames)).mean(dim=1, keepdim=True)
        assert tokens.shape == expected.shape == (112, TOKENS, FEATURES)
        assert (tokens - expected).norm() < tolerance * expected.norm()


def test_a_scene_is_encoded_once(scenes: SceneTokens) -> None:
    movies = scenes.movies("count", (10, 80), range(3))
    encoded = len(scenes.tokens)
    again = scenes.movies("count", (10, 80), range(3))
    assert len(scenes.tokens) == encoded
    assert torch.equal(movies.rows, again.rows)
    assert movies.rows.shape == (6, 112)
    assert movies.gaps.tolist() == [10, 80] * 3
    labels = [write_script("count", gap, seed).label for seed in range(3) for gap in (10, 80)]
    assert [QUESTIONS["count"].labels[target] for target in movies.targets] == labels


@pytest.mark.parametrize("question", QUESTIONS)
def test_models_have_similar_sizes(question: str) -> None:
    labels = len(QUESTIONS[question].labels)
    sizes = [sum(p.numel() for p in c.build(labels).parameters()) for c in MODELS.values()]
    assert max(sizes) < 1.15 * min(sizes)


@pytest.mark.parametrize("name", ENTRANTS)
def test_gradients_reach_all_tokens(name: str) -> None:
    entrant = ENTRANTS[name]
    model = entrant.build(3).eval()
    features = torch.randn(2, entrant.frames * TOKENS, FEATURES, requires_grad=True)
    logits = model(features)
    logits.square().sum().backward()
    assert logits.shape == (2, 3)
    assert features.grad is not None
    assert (features.grad.abs().sum(dim=-1) > 0).all()


def test_only_the_pooled_mlp_is_blind_to_order() -> None:
    features = torch.randn(1, 112 * TOKENS, FEATURES)
    for name in ("ViS4mer", "Transformer", "mean-pooled MLP"):
        model = MODELS[name].build(2).eval()
        assert torch.allclose(model(features), model(features.flip(1)), atol=1e-5) == isinstance(model, PooledMLP)


def test_a_decoder_without_ablation_equals_s4_decoder() -> None:
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


def test_pooling_the_unpooled_blocks_tokens_equals_the_block() -> None:
    torch.manual_seed(0)
    pooled, unpooled = (kind(8, 4, 30, 0.1, "exact").eval() for kind in (Block, UnpooledBlock))
    unpooled.load_state_dict(pooled.state_dict())
    outputs = []  # of the linear layer, which commutes with pooling
    for block in (pooled, unpooled):
        block.reduce.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    x = torch.randn(2, 30, 8)
    pooled(x), unpooled(x)
    assert torch.allclose(outputs[0], outputs[1].unflatten(1, (15, 2)).mean(dim=2), atol=1e-6)


class MarkDetector(nn.Module):
    """Classifies a window as 1 if one of its tokens holds a 1."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.0))

    def ssm_parameters(self) -> list[nn.Parameter]:
        return []

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        score = self.weight * (features.amax(dim=(1, 2)) - 0.5)
        return torch.stack([-score, score], dim=1)


def _marked() -> tuple[Movies, torch.Tensor]:
    """Returns movies of 112 frames, and tokens; in every second movie, one frame holds a 1."""
    tokens = torch.zeros(2, TOKENS, FEATURES)
    tokens[1] = 1
    rows = torch.zeros(8, 112, dtype=torch.int64)
    rows[torch.arange(0, 8, 2), torch.tensor([0, 30, 60, 111])] = 1
    return Movies(rows, torch.tensor([1, 0] * 4), torch.full((8,), 10)), tokens


def test_outputs_of_windows_are_averaged() -> None:
    """A mark is in at most five of 52 windows of 10 s: seen whole, all movies are classified; in windows, none is."""
    movies, tokens = _marked()
    whole = training.correct(MarkDetector(), Entrant(lambda _: MarkDetector()), movies, tokens)
    assert whole.all()
    excerpts = training.correct(MarkDetector(), Entrant(lambda _: MarkDetector(), frames=10), movies, tokens)
    assert excerpts.tolist() == [False, True] * 4


def test_training_learns_and_is_determined_by_its_seed() -> None:
    movies, tokens = _marked()
    config = TrainConfig(epochs=60, batch_size=8, lr=3e-3, seed=1)
    entrant = MODELS["mean-pooled MLP"]
    tokens[1] *= 20
    first, second = (training.train(entrant, 2, movies, tokens, config) for _ in range(2))
    for ours, theirs in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert training.correct(first, entrant, movies, tokens).all()


def _result(val: float) -> runs.Result:
    return {"parameters": 7, "seconds": 1.0, "val": val, "accuracy": {str(gap): val for gap in GAPS}}


def _done(size: Size, journal: Journal) -> list[Run]:
    """Completes a plan in which the lower rate is better for the Transformer alone."""
    done = []
    for run in plan(size, journal):
        journal.add(run, _result((1 if run.entrant == "Transformer" else -1) / (run.lr * 1000) / 10 + run.seed / 10))
        done.append(run)
    return done


def test_the_first_seed_tries_all_rates_and_the_others_use_the_best(tmp_path: Path) -> None:
    done = _done(SIZE, Journal(tmp_path / "journal"))
    assert len(done) == len(set(done)) == count(SIZE)
    for name in ENTRANTS:
        tried, best = ({1e-3, 3e-3}, 1e-3) if name == "Transformer" else ({3e-3}, 3e-3)
        for question in QUESTIONS:
            rates = [{run.lr for run in done if run[:3] == (question, name, seed)} for seed in (0, 1)]
            planned = name in MODELS or question in ABLATED_ON
            assert rates == ([tried, {best}] if planned else [set(), set()])


def test_an_interrupted_benchmark_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Run] = []

    def run(self: Trainer, run: Run) -> runs.Result:
        if len(started) == 5:
            raise KeyboardInterrupt
        started.append(run)
        return _result(0.5)

    monkeypatch.setattr(Trainer, "run", run)
    with pytest.raises(KeyboardInterrupt):
        runs.complete(SIZE, tmp_path)
    first, started[:] = list(started), []
    monkeypatch.setattr(Trainer, "run", lambda self, run: started.append(run) or _result(0.5))
    journal = runs.complete(SIZE, tmp_path)
    assert not set(first) & set(started)
    assert set(journal.results) == {*first, *started}
    assert runs.complete(SIZE, tmp_path).results == journal.results


def test_a_run_trains_and_tests() -> None:
    result = Trainer(SIZE).run(Run("order", "ViS4mer, 10 s excerpts", 0, 3e-3))
    assert 37_000 < result["parameters"] < 38_000
    assert set(result["accuracy"]) == {"10", "20", "40", "80"}
    assert set(result["accuracy"].values()) <= {0.0, 1.0}  # one movie of each gap


def test_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = Journal(tmp_path / "journal")
    _done(SIZE, journal)
    rows = table.tabulate(journal, SIZE, QUESTIONS, MODELS)
    assert [(row["question"], row["entrant"]) for row in rows] == [(q, c) for q in QUESTIONS for c in MODELS]
    assert rows[1]["lr"] == 1e-3
    assert np.allclose(rows[1]["accuracy"]["80"], [0.1, 0.2])
    table.show_rows(rows[1:2], dict.fromkeys(MODELS, 1.5))
    _, line = capsys.readouterr().out.splitlines()
    assert line.count("15.0 (10-20)") == 4


def test_committed_results_match_the_benchmark() -> None:
    path = Path(__file__).parents[2] / "benchmarks" / "results" / "long_range.json"
    result = json.loads(path.read_text())
    assert result["size"] == dataclasses.asdict(Size())
    rows = {(row["question"], row["entrant"]) for row in result["rows"]}
    assert rows == {(question, name) for question in QUESTIONS for name in MODELS}
    assert {row["entrant"] for row in result["ablations"]} == {"ViS4mer", *ABLATIONS}
    assert {row["question"] for row in result["ablations"]} <= set(ABLATED_ON)
    for row in (*result["rows"], *result["ablations"]):
        assert list(row["accuracy"]) == [str(gap) for gap in GAPS]
    assert {len(values) for row in result["rows"] for values in row["accuracy"].values()} == {Size().seeds}
