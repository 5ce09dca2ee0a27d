"""The page of the fault campaigns, made from their results."""

import json
from pathlib import Path

from campaign_page import campaigns

RESULT = {
    "command": "python -m tests.campaigns.videos",
    "description": "Damaged movies: one line.",
    "machine": {"cpu": "A processor", "threads": 2, "python": "3.11"},
    "date": "2026-01-31",
    "rows": [
        {"through": "run", "tried": 1500, "failed": 1, "slowest_seconds": 0.5, "failures": ["seed 3: hangs"]},
        {"through": "reader", "tried": 500, "failed": 0, "slowest_seconds": 0.1, "failures": []},
    ],
}


def test_the_page_counts_what_was_tried_found_and_left(tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "videos.json").write_text(json.dumps(RESULT))
    found = {"kills": [], "videos": [{"failures": 2, "cause": "A cause."}, {"failures": 1, "cause": "Another."}]}
    (tmp_path / "found.json").write_text(json.dumps(found))
    page = campaigns(tmp_path)
    assert "| [Videos](#videos) | 2,000 | 3 | 1 |" in page
    assert "| [Kills](#kills) | not recorded | 0 |  |" in page
    assert "| run | 1,500 | 1 | 0.5 |" in page
    assert "- seed 3: hangs" in page
    assert "- 2 failures: A cause." in page
    assert "A processor, 2 threads" in page
    assert "Damaged movies: one line." in page


def test_stored_results_are_those_of_campaigns() -> None:
    folder = Path(__file__).parents[1] / "campaigns"
    for path in (folder / "results").glob("*.json"):
        result = json.loads(path.read_text())
        assert (folder / f"{path.stem}.py").is_file()
        assert result["command"].startswith(f"python -m tests.campaigns.{path.stem}")
        assert all({"tried", "failed", "failures"} <= row.keys() for row in result["rows"])
    assert all((folder / f"{name}.py").is_file() for name in json.loads((folder / "found.json").read_text()))
