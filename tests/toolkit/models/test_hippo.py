import torch

from vis4mer.models.hippo import legs, legs_nplr


def test_nplr_is_legs_in_another_basis() -> None:
    """Theorem 1: the dense matrix and its normal-plus-low-rank form have the same transfer function."""
    n = 64
    A, B = legs(n)
    w, P, b = legs_nplr(n)
    pair = lambda v: torch.cat([v, v.conj()])  # noqa: E731
    dplr = torch.diag(pair(w)) - pair(P)[:, None] * pair(P).conj()[None, :]
    eye = torch.eye(n, dtype=torch.complex128)
    for s in (0.3 + 1j, 2.0 - 5j, 10.0 + 0j):
        direct = B.to(eye.dtype) @ torch.linalg.solve(s * eye - A.to(eye.dtype), B.to(eye.dtype))
        factored = pair(b).conj() @ torch.linalg.solve(s * eye - dplr, pair(b))
        torch.testing.assert_close(factored, direct, rtol=1e-9, atol=0)


def test_legs_entries() -> None:
    A, B = legs(3)
    root3, root5, root15 = 3**0.5, 5**0.5, 15**0.5
    expected = -torch.tensor([[1, 0, 0], [root3, 2, 0], [root5, root15, 3]], dtype=torch.float64)
    torch.testing.assert_close(A, expected)
    torch.testing.assert_close(B, torch.tensor([1, root3, root5], dtype=torch.float64))
