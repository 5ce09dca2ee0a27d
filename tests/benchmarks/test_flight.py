"""The model of a GPU: its rates by hand, and which stage bounds."""

import pytest

from benchmarks.flight import GPUS, SIZES, model_row, sampled_share, stage_rates

H100, HD = GPUS["H100 SXM"], SIZES["1080p"]


def test_rates_are_those_computed_by_hand() -> None:
    # 24 frames take 24 ms on an engine of 1,000 frames/s; 6.2 MB over 38.4 GB/s take 0.166 ms; resizing takes 5 ms.
    host = stage_rates(H100, HD, "host", jobs=2, frames_per_sample=24)
    assert host["readers"] == pytest.approx(2 / 29.166e-3, rel=1e-3)
    assert host["NVDEC"] == pytest.approx(7 / 24e-3)
    assert host["host"] == pytest.approx(16 / 5e-3)
    assert host["bus"] == pytest.approx(1 / 0.1659e-3, rel=1e-2)
    # 158 GFLOP at 593 TFLOP/s take 0.266 ms, the convolutions 0.18 ms.
    assert host["GPU"] == pytest.approx(1 / 0.447e-3, rel=1e-2)
    device = stage_rates(H100, HD, "device", jobs=2, frames_per_sample=24)
    assert set(device) == {"readers", "NVDEC", "GPU"}
    assert device["readers"] == pytest.approx(2 / 24e-3)
    assert 0.98 < device["GPU"] / host["GPU"] < 1, "resizing on the device takes microseconds"


@pytest.mark.parametrize(("jobs", "bound"), [(1, "readers"), (6, "readers"), (8, "NVDEC")])
def test_the_slowest_stage_bounds(jobs: int, bound: str) -> None:
    row = model_row("H100 SXM", "4K", "device", jobs, 6.0)
    assert row["bound"] == bound
    assert row["film_seconds_per_second"] == min(row["stages"].values())


def test_the_share_of_decoded_frames_is_that_of_the_measurement() -> None:
    rows = [
        {"gop": 48, "b_frames": 0, "packets_sent": 2, "packets": 4},
        {"gop": 48, "b_frames": 3, "packets_sent": 1, "packets": 4},
    ]
    assert sampled_share({"rows": rows}) == 6.0
