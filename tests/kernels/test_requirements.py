import pytest

from vis4mer_kernels.library import Library

from . import conftest


@pytest.mark.parametrize(
    ("kind", "required", "outcome"),
    [("cuda", "1", pytest.fail.Exception), ("cuda", "", pytest.skip.Exception), ("cpu", "1", pytest.skip.Exception)],
)
def test_a_required_gpu_is_not_skipped_for_a_library_without_cuda(
    monkeypatch: pytest.MonkeyPatch, kind: str, required: str, outcome: type[BaseException]
) -> None:
    monkeypatch.setattr(conftest, "library", lambda: Library((), "built without nvcc"))
    monkeypatch.setenv("VIS4MER_REQUIRE_GPU", required)
    with pytest.raises(outcome, match=f"no native ops for {kind}: built without nvcc"):
        conftest.require_ops(kind)


def test_a_device_with_ops_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conftest, "library", lambda: Library(("cpu", "cuda"), "/ops.so"))
    conftest.require_ops("cuda")
