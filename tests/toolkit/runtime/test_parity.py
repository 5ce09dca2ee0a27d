import io
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vis4mer.errors import BundleError
from vis4mer.runtime.cases import Cases, GraphCases
from vis4mer.runtime.interface import GraphInterface, TensorSpec
from vis4mer.runtime.parity import ParityError, check_graph

OUTPUTS = np.array([[3.0, 1.0], [1.0, 3.0], [2.5, 2.0]], np.float32)
CASES = GraphCases(("random", "random", "movie"), np.arange(3, dtype=np.float32)[:, None], OUTPUTS)
INTERFACE = GraphInterface(
    (TensorSpec("features", "float32", ("batch", 2, 3)),), (TensorSpec("logits", "float32", ("batch", 2)),)
)
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


def graph(change: Change) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Returns a runner that looks up its inputs among the cases and changes the outputs."""
    return lambda batch: change(OUTPUTS[batch[:, 0].astype(int)].copy())


def test_equal_outputs_pass_at_both_batch_sizes() -> None:
    sizes = []

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        sizes.append(len(batch))
        return OUTPUTS[batch[:, 0].astype(int)] * np.float32(1 + 1e-5)

    result = check_graph("head", run, CASES, "fp32", classes=True)
    assert sizes == [1, 1, 1, 3]
    assert result.batch_sizes == (1, 3)
    assert result.relative_l2 == pytest.approx(1e-5, rel=0.05)
    assert result.max_abs == pytest.approx(3e-5, rel=0.05)
    assert result.same_label is True


def only_in_batches(y: NDArray[np.float32]) -> NDArray[np.float32]:
    return y if len(y) == 1 else y[::-1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y * np.float32(1.01), r"relative error 1.0e-02 exceeds 1e-04 on a .* input at batch size 1"),
        (only_in_batches, "at batch size 3"),
        (lambda y: np.where(y == 2.5, np.nan, y).astype(np.float32), "relative error nan exceeds .* on a movie input"),
        (lambda y: y[:, :1], r"returned float32\[3, 1\], but the model returned float32\[3, 2\]"),
        (lambda y: y.astype(np.float64), r"returned float64\[3, 2\]"),
    ],
)
def test_the_difference_is_named(change: Change, message: str) -> None:
    with pytest.raises(ParityError, match=f"graph='head': .*{message}") as caught:
        check_graph("head", graph(change), CASES, "fp32", classes=True)
    assert "\n" not in str(caught.value)


def test_another_label_within_tolerance_is_an_error_for_classes_only() -> None:
    close = GraphCases(("movie",) * 2, np.arange(2.0)[:, None], np.array([[2.0, 2.01], [5.0, 1.0]], np.float32))

    def swap(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array([[2.01, 2.0], [5.0, 1.0]], np.float32)[batch[:, 0].astype(int)]

    with pytest.raises(ParityError, match="its label is not the model's"):
        check_graph("head", swap, close, "fp16", classes=True)
    assert check_graph("head", swap, close, "fp16", classes=False).same_label is None


def test_a_value_near_zero_is_judged_by_the_others_size() -> None:
    """Regression targets are centred, so an error of 1e-5 at a value of 1e-5 is no relative error of 100 %."""
    values = GraphCases(("random",) * 2, np.arange(2.0)[:, None], np.array([[1e-5], [2.0]], np.float32))

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return values.outputs[batch[:, 0].astype(int)] + np.float32(1e-5)

    assert check_graph("likes", run, values, "fp32", classes=False).relative_l2 < 1e-5


def test_cases_survive_their_file() -> None:
    arrays = {
        "inputs/heads": np.ones((1, 2, 3), np.float16),
        "kinds/heads": np.array(["random"]),
        "outputs/a": np.ones((1, 2), np.float32),
    }
    cases = Cases.from_bytes(Cases(arrays).to_bytes()).of("a", INTERFACE)
    assert cases.kinds == ("random",)
    assert cases.inputs.dtype == np.float32
    np.testing.assert_array_equal(cases.outputs, arrays["outputs/a"])


def npy() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


def pickled() -> bytes:
    file = io.BytesIO()
    np.savez(file, a=np.array([{}], dtype=object))
    return file.getvalue()


def archive(content: bytes, *, flags: int = 0, method: int = 0) -> bytes:
    """Returns a ZIP archive of one entry, with flags and a method of compression that it does not have."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as writer:
        writer.writestr("a.npy", content)
    data = bytearray(file.getvalue())
    central = data.index(b"PK\x01\x02")
    data[6] = data[central + 8] = flags
    data[8] = data[central + 10] = method
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"garbage",
        b"PK\x03\x04garbage",
        pytest.param(npy(), id="one array"),
        pytest.param(pickled(), id="objects"),
        pytest.param(archive(b"text"), id="no array"),
        pytest.param(archive(npy(), flags=1), id="encrypted"),
        pytest.param(archive(npy(), method=99), id="unknown compression"),
    ],
)
def test_a_damaged_file_of_cases_is_one_line(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"parity\.cases\.npz.*(is not an array archive|is no array)") as caught:
        Cases.from_bytes(data)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"kinds/heads": np.array(["random"])},
        {"kinds/heads": np.array("random")},
        {"inputs/heads": np.float32(1)},
        {"inputs/heads": np.array(["x", "y"])},
        {"inputs/heads": np.ones((2, 2, 3), np.complex64)},
        {"outputs/a": np.array(["x", "y"])},
        {"outputs/a": np.ones((3, 2), np.float32)},
        {"kinds/heads": np.array([], str), "inputs/heads": np.ones((0, 2, 3)), "outputs/a": np.ones((0, 2))},
    ],
)
def test_cases_that_do_not_belong_together_are_one_line(changes: dict[str, NDArray[Any]]) -> None:
    arrays: dict[str, NDArray[Any]] = {
        "inputs/heads": np.ones((2, 2, 3), np.float16),
        "kinds/heads": np.array(["random", "static"]),
        "outputs/a": np.ones((2, 2), np.float32),
    }
    with pytest.raises(BundleError, match=r"parity\.cases\.npz.* of 'a'"):
        Cases({**arrays, **changes}).of("a", INTERFACE)


def _with_header(shape: tuple[int, ...], size: int) -> bytes:
    """An archive of one array whose header states a shape, with so many zeros."""
    header, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inputs/heads.npy", header.getvalue() + bytes(size))
    return buffer.getvalue()


def test_an_archive_that_grows_a_thousandfold_is_not_unpacked() -> None:
    bomb = _with_header((300 << 20,), 300 << 20)
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(BundleError, match=r"parity\.cases\.npz.* unpack to 3145"):
        Cases.from_bytes(bomb)
    assert tracemalloc.get_traced_memory()[1] < 4 << 20
    tracemalloc.stop()


@pytest.mark.parametrize("shape", [(1 << 60,), (-1, 4)])
def test_an_array_of_an_impossible_shape_is_one_line(shape: tuple[int, ...]) -> None:
    with pytest.raises(BundleError, match=r"parity\.cases\.npz.*is not an array archive"):
        Cases.from_bytes(_with_header(shape, 64))


_CASES = {
    "inputs/heads": np.ones((2, 2, 3), np.float16),
    "kinds/heads": np.array(["random", "static"]),
    "outputs/a": np.ones((2, 2), np.float32),
}


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("inputs/heads", np.array("text")),
        ("inputs/heads", np.ones((2, 2, 3), np.bool_)),
        ("inputs/heads", np.ones((2, 6), np.float16)),
        ("inputs/heads", np.ones((3, 2, 3), np.float16)),
        ("inputs/heads", np.ones((0, 2, 3), np.float16)),
        ("kinds/heads", np.array("random")),
        ("kinds/heads", np.array(["random"] * 65)),
        ("outputs/a", np.ones((2, 3), np.float32)),
        ("outputs/a", np.array(["x", "y"])),
    ],
)
def test_cases_that_do_not_fit_the_graph_are_one_line(name: str, array: NDArray[Any]) -> None:
    with pytest.raises(BundleError, match=r"parity\.cases\.npz.*of 'a'") as refused:
        Cases.from_bytes(Cases(_CASES | {name: array}).to_bytes()).of("a", INTERFACE)
    assert "\n" not in str(refused.value)


def test_missing_cases_are_named() -> None:
    with pytest.raises(BundleError, match=r"lacks .*inputs/heads.* of 'a'"):
        Cases({}).of("a", INTERFACE)
