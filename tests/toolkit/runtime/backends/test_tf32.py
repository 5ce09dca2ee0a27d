import io
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from vis4mer.runtime.backends.tf32 import forbid_tf32_in_trace, ieee_convolutions  # noqa: E402

backends = torch.backends


def settings() -> dict[str, Any]:
    """Every setting of the process that concerns TF32 in convolutions, and what the parents' settings would change."""
    found: dict[str, Any] = {}
    for name, holder in (("conv", backends.cudnn.conv), ("rnn", backends.cudnn.rnn), ("cudnn", backends.cudnn)):
        found[name] = holder.fp32_precision
    found["general"], found["matmul"] = backends.fp32_precision, backends.cuda.matmul.fp32_precision
    try:
        found["allow_tf32"] = backends.cudnn.allow_tf32
    except RuntimeError:  # PyTorch refuses where the two interfaces contradict each other
        found["allow_tf32"] = None
    # Whether convolutions still follow the setting of all backends.
    general, backends.fp32_precision = backends.fp32_precision, "ieee"
    found["follows"] = backends.cudnn.conv.fp32_precision
    backends.fp32_precision = general
    return found


def isolated(check: Callable[[], None]) -> None:
    """Runs a check in a process of its own: no call restores the settings of a fresh process."""
    import multiprocessing

    process = multiprocessing.get_context("spawn").Process(target=check)
    process.start()
    process.join()
    assert process.exitcode == 0


def every_choice_is_restored() -> None:
    choices: list[Callable[[], None]] = [
        lambda: None,
        lambda: setattr(backends, "fp32_precision", "tf32"),
        lambda: setattr(backends, "fp32_precision", "none"),
        lambda: torch.set_float32_matmul_precision("high"),
        lambda: setattr(backends.cudnn, "fp32_precision", "tf32"),
        lambda: setattr(backends.cudnn, "fp32_precision", "none"),
        lambda: setattr(backends.cudnn.conv, "fp32_precision", "tf32"),
        lambda: setattr(backends.cudnn.conv, "fp32_precision", "ieee"),
        lambda: setattr(backends.cudnn, "allow_tf32", False),
        lambda: setattr(backends.cudnn, "allow_tf32", True),
    ]
    for choose in choices:
        choose()
        before = settings()
        with ieee_convolutions():
            assert backends.cudnn.conv.fp32_precision != "tf32"
            # Products that follow the general setting are computed in float32, too; a choice for products stays.
            assert backends.cuda.matmul.fp32_precision in ("ieee", before["matmul"])
        assert settings() == before


def test_the_setting_of_the_user_returns_whatever_it_was() -> None:
    isolated(every_choice_is_restored)


def last_thread_restores() -> None:
    before, inside, leave = settings(), threading.Barrier(3), threading.Event()

    def use(fail: bool) -> None:
        try:
            with ieee_convolutions():
                inside.wait()
                if fail:
                    raise ValueError
                leave.wait()
        except ValueError:
            pass

    threads = [threading.Thread(target=use, args=(fail,)) for fail in (True, False)]
    for thread in threads:
        thread.start()
    inside.wait()
    threads[0].join()
    assert backends.cudnn.conv.fp32_precision == "ieee", "one thread is still inside"
    leave.set()
    threads[1].join()
    assert settings() == before


def test_the_last_thread_restores_the_setting() -> None:
    isolated(last_thread_restores)


def test_a_trace_is_freed_of_the_setting_that_it_stores() -> None:
    module = torch.nn.Conv2d(3, 4, kernel_size=4, stride=4).eval()
    frames = torch.rand(2, 3, 8, 8)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = torch.jit.freeze(torch.jit.trace(module, (frames,), check_trace=False))
        stored = io.BytesIO()
        torch.jit.save(trace, stored)
        program = torch.jit.load(io.BytesIO(stored.getvalue())).eval()
        (convolution,) = program.graph.findAllNodes("aten::_convolution")
        assert list(convolution.inputs())[-1].toIValue() is True
        forbid_tf32_in_trace(program)
        for _ in range(3):  # the first runs are profiled, a later one is optimised
            torch.testing.assert_close(program(frames), module(frames))
        (executed,) = torch.jit.last_executed_optimized_graph().findAllNodes("aten::_convolution")
    *_, cudnn_enabled, allow_tf32 = (value.toIValue() for value in executed.inputs())
    assert (cudnn_enabled, allow_tf32) == (True, False)


def test_the_setting_is_the_last_argument_of_the_operator() -> None:
    """`forbid_tf32_in_trace` refers to it by position."""
    arguments = [argument.name for argument in torch.ops.aten._convolution.default._schema.arguments]
    assert arguments.index("allow_tf32") == 12
