"""Subspace algebra and cosine identities, on random shapes."""

import math

import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightrope import seeds, spectra
from tightrope.fingerprint import fingerprint
from tightrope.inputs import subspaces

EXACT = 1e-11
SHAPE = (2, 9, 7)
whole = st.integers(0, 2**31)


def one_of_each(shape, seed):
    """One of each kind, all of the same inputs."""
    _, height, width = shape
    keep = torch.rand(height, width, generator=torch.Generator().manual_seed(seed)) < 0.4
    keep[0, 0], keep[-1, -1] = True, False
    plane = spectra.random_subspace(shape, 2, seed)
    return [
        spectra.full(shape),
        plane,
        plane.complement(),
        spectra.random_subspace(shape, 3, seed + 1, inside=plane.complement()),
        spectra.dct_block(shape, 0, 1, (height - 1, width - 2)),
        spectra.dct_block(shape, 1, 0, 1).complement(),
        spectra.dct_coefficients(shape, keep),
        spectra.dct_coefficients(shape, keep).complement(),
    ]


shapes = st.tuples(st.integers(1, 3), st.integers(3, 9), st.integers(3, 9))


def draw(shape, seed, n=4, dtype=torch.float64):
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


@settings(max_examples=30, deadline=None)
@given(shapes, whole)
def test_every_kind_is_an_orthogonal_projection(shape, seed):
    x, y = draw(shape, seed), draw(shape, seed + 7)
    for s in one_of_each(shape, seed):
        c, p = s.coordinates(x), s.project(x)
        assert c.shape == (len(x), s.dim)
        assert p.shape == x.shape
        torch.testing.assert_close(s.coordinates(s.lift(c)), c, atol=EXACT, rtol=0)  # orthonormal basis
        torch.testing.assert_close(s.project(p), p, atol=EXACT, rtol=0)  # idempotent
        torch.testing.assert_close((p * y).sum(), (x * s.project(y)).sum(), atol=1e-9, rtol=0)  # symmetric
        torch.testing.assert_close(c.norm(dim=1), p.flatten(1).norm(dim=1), atol=EXACT, rtol=0)  # isometric


@settings(max_examples=30, deadline=None)
@given(shapes, whole)
def test_a_subspace_and_its_complement_share_out_the_space(shape, seed):
    x = draw(shape, seed)
    for s in one_of_each(shape, seed)[1:]:
        other = s.complement()
        assert s.dim + other.dim == math.prod(shape)
        torch.testing.assert_close(s.project(x) + other.project(x), x, atol=EXACT, rtol=0)
        assert s.coordinates(other.project(x)).abs().max() < EXACT
        torch.testing.assert_close(other.complement().project(x), s.project(x), atol=EXACT, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 33), st.integers(1, 33), whole)
def test_the_transform_is_scipys_and_inverts(height, width, seed):
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        x = draw((2, height, width), seed, dtype=dtype) / 4
        expected = scipy.fft.dctn(x.double().numpy(), axes=(-2, -1), norm="ortho")
        scale = max(1.0, float(abs(expected).max()))
        assert (spectra.dct2(x).double() - torch.from_numpy(expected)).abs().max() < tolerance * scale * 4
        assert (spectra.idct2(spectra.dct2(x)) - x).abs().max() < tolerance * 4
        torch.testing.assert_close(spectra.dct2(x).norm(), x.norm(), rtol=tolerance * 10, atol=0)


def test_a_block_is_the_span_of_its_cosine_atoms():
    atoms = torch.zeros(2, 9, 7, 2, 9, 7, dtype=torch.float64)
    for channel in range(2):
        for row in range(9):
            for col in range(7):
                spectrum = torch.zeros(2, 9, 7, dtype=torch.float64)
                spectrum[channel, row, col] = 1
                atoms[channel, row, col] = spectra.idct2(spectrum)
    block = spectra.dct_block(SHAPE, 2, 3, (4, 2))
    by_hand = spectra.span(*atoms[:, 2:6, 3:5].reshape(-1, *SHAPE))
    x = draw(SHAPE, 0)
    assert block.dim == by_hand.dim == 16
    torch.testing.assert_close(block.project(x), by_hand.project(x), atol=EXACT, rtol=0)


@pytest.mark.parametrize(
    ("shape", "size", "step", "count", "dim"),
    [((1, 28, 28), 8, 1, 21, 64), ((3, 32, 32), 8, 2, 13, 192), ((3, 224, 224), 16, 16, 14, 768)],
)
def test_the_published_windows(shape, size, step, count, dim):
    windows = spectra.dct_windows(shape, size, step)
    assert [w.dim for w in windows] == [dim] * count
    assert windows[0].name == "DCT 0,0"
    assert windows[-1].name == f"DCT {shape[1] - size},{shape[1] - size}"


def test_windows_that_tile_cover_the_diagonal_blocks_and_nothing_else():
    windows = spectra.dct_windows((1, 12, 12), size=4, step=4)
    x = draw((1, 12, 12), 3)
    kept = torch.block_diag(*[torch.ones(4, 4, dtype=torch.float64)] * 3)
    torch.testing.assert_close(
        sum(w.project(x) for w in windows), spectra.idct2(spectra.dct2(x) * kept), atol=EXACT, rtol=0
    )
    for a in range(3):
        for b in range(a):
            assert windows[a].project(windows[b].project(x)).abs().max() < EXACT


def test_a_random_subspace_is_reproducible_and_stays_inside():
    home = spectra.span(draw((30,), 0, n=1)[0]).complement()
    s = spectra.random_subspace((30,), 3, 5, inside=home)
    again = spectra.random_subspace((30,), 3, seeds.generator(5, "subspace"), inside=home)
    assert torch.equal(s.basis(), again.basis())
    assert not torch.equal(s.basis(), spectra.random_subspace((30,), 3, 6, inside=home).basis())
    torch.testing.assert_close(home.project(s.basis()), s.basis(), atol=EXACT, rtol=0)


def test_random_subspaces_are_uniform():
    """‖P_S w‖² of a fixed unit w in a uniform S of dimension S is Beta(S/2, (D−S)/2)."""
    from scipy import stats

    w = torch.zeros(1, 20, dtype=torch.float64)
    w[0, 0] = 1
    share = [float(spectra.random_subspace((20,), 3, seed).coordinates(w).norm() ** 2) for seed in range(400)]
    assert stats.kstest(share, stats.beta(1.5, 8.5).cdf).pvalue > 1e-6


def test_a_span_keeps_the_direction_and_the_sign_of_a_single_vector():
    v = draw((5,), 0, n=1)[0]
    assert spectra.span(v).coordinates(v[None]).item() == pytest.approx(v.norm().item())


def test_a_subspace_is_named_by_what_it_holds():
    shape = (1, 6, 6)
    every = [
        *one_of_each(shape, 0),
        *one_of_each(shape, 1)[1:4],
        *spectra.dct_windows(shape, 3),
        *spectra.dct_diagonals(shape, 3),
    ]
    every += [spectra.dct_block(shape, 1, 1, 2), spectra.dct_block(shape, 1, 1, (1, 4))]
    names = [fingerprint(s) for s in every]
    assert len(set(names)) == len(every)
    [
        s.coordinates(draw(shape, 0, dtype=torch.float32)) for s in every
    ]  # leaves copies behind, which do not count
    assert [fingerprint(s) for s in every] == names
    assert fingerprint(spectra.dct_windows(shape, 3)[2]) == fingerprint(spectra.dct_block(shape, 2, 2, 3))


def test_precision_and_device_follow_the_input():
    window = spectra.dct_windows((1, 28, 28))[4]
    assert window.coordinates(torch.rand(2, 1, 28, 28)).dtype == torch.float32
    assert window.coordinates(torch.rand(2, 1, 28, 28, dtype=torch.float64)).dtype == torch.float64


def test_imagenet_windows_cost_no_memory():
    """A dense basis of one ImageNet window is 768 × 150,528 numbers; a block keeps two thin matrices."""
    window = spectra.dct_windows((3, 224, 224), 16, 16)[3]
    kept = [v.exact.numel() for v in vars(window).values() if isinstance(v, subspaces._Cast)]
    assert sum(kept) == 2 * 16 * 224
