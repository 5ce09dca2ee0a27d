"""Published weights without a network: every address is on the loopback interface, and nothing answers there."""

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from vis4mer.config import Preprocessing
from vis4mer.errors import CheckpointError
from vis4mer.models import hub, video_swin
from vis4mer.models.encoder import FrameEncoder

SMALL = Preprocessing(height=32, width=32)


def refuse_to_wait(seconds: float) -> None:
    raise AssertionError(f"waited {seconds} s for another attempt")


@pytest.fixture(autouse=True)
def no_retries(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(time, "sleep", refuse_to_wait)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(hub, "_ANSWER_SECONDS", 0.5)
    huggingface_hub.close_session()
    yield
    huggingface_hub.close_session()


@pytest.fixture(params=["refuses connections", "never answers"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a server that refuses connections, or accepts them and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if request.param == "never answers":
            yield f"http://127.0.0.1:{port}"
            return
    yield f"http://127.0.0.1:{port}"


def test_the_hub_fails_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    with pytest.raises(CheckpointError) as raised:
        FrameEncoder.build("test_vit", SMALL, "hub")
    message = str(raised.value)
    assert message.startswith("encoder='test_vit': its weights are not on this machine and cannot be downloaded from")
    assert address in message
    assert message.endswith("; use --encoder-weights FILE, or random for a trial without them")
    assert "\n" not in message
    assert capfd.readouterr() == ("", "")
    assert constants.HF_HUB_OFFLINE is False


def test_torchvision_fails_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(video_swin, "weights_url", lambda name: f"{address}/{name}.pth")
    with pytest.raises(CheckpointError, match=r"encoder='swin3d_t': its weights .* from torchvision .*encoder-weights"):
        FrameEncoder.build("swin3d_t", Preprocessing(height=32, width=32, segments=2), "hub")
    assert capfd.readouterr() == ("", "")


def test_weights_in_the_cache_need_no_network(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", address)
    # huggingface_hub reads its cache without a request in this mode.
    assert hub.from_hugging_face("test_vit", lambda: constants.is_offline_mode()) is True
    assert constants.is_offline_mode() is False


def test_torchvision_announces_nothing_on_stdout(capfd: pytest.CaptureFixture[str], tmp_path: Any) -> None:
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    (tmp_path / "hub" / "checkpoints" / "x.pth").touch()
    assert hub.from_torchvision("swin3d_t", "http://127.0.0.1/x.pth", lambda: print("Downloading")) is None
    assert capfd.readouterr().out == ""


class _NoHead(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_response(405)
        self.end_headers()

    def log_message(self, *arguments: object) -> None:
        pass


def test_a_server_that_refuses_the_first_request_may_still_have_the_weights() -> None:
    with HTTPServer(("127.0.0.1", 0), _NoHead) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/x.pth"
        assert hub.from_torchvision("swin3d_t", url, lambda: "weights") == "weights"
        thread.join()
