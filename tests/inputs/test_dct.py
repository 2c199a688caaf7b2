"""Flipping and filtering images: isometries and projections, against scipy's transform and the spectrum itself."""

import numpy as np
import pytest
import scipy.fft
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tightrope import spectra
from tightrope.inputs import dct

sides = st.integers(1, 40)
PRECISIONS = [(torch.float32, 1e-6), (torch.float64, 1e-12)]


def images(height, width, dtype=torch.float64, n=3, seed=0):
    return torch.rand(n, 2, height, width, generator=torch.Generator().manual_seed(seed)).to(dtype)


def spectrum(x):
    return scipy.fft.dctn(x.double().numpy(), axes=(-2, -1), norm="ortho")


@pytest.mark.parametrize(("dtype", "tolerance"), PRECISIONS)
@pytest.mark.parametrize("shape", [(28, 28), (32, 32), (224, 224), (7, 30), (1, 5)])
def test_the_transform_is_scipys(shape, dtype, tolerance):
    x = images(*shape, dtype)
    expected = spectrum(x)
    scale = np.abs(expected).max()
    assert np.abs(dct.dct2(x).double().numpy() - expected).max() <= tolerance * scale
    back = scipy.fft.idctn(x.double().numpy(), axes=(-2, -1), norm="ortho")
    assert np.abs(dct.idct2(x).double().numpy() - back).max() <= tolerance * np.abs(back).max()


@settings(max_examples=30, deadline=None)
@given(sides, sides, st.integers(0, 2**31))
def test_flip_turns_the_spectrum_and_is_an_isometry_and_an_involution(height, width, seed):
    x = images(height, width, seed=seed)
    flipped = dct.flip(x)
    np.testing.assert_allclose(spectrum(flipped), spectrum(x)[..., ::-1, ::-1], atol=1e-11)
    torch.testing.assert_close(dct.flip(flipped), x, atol=1e-12, rtol=0)
    torch.testing.assert_close(flipped.flatten(1).norm(dim=1), x.flatten(1).norm(dim=1))
    assert not torch.allclose(flipped, x) or max(height, width) == 1


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), st.data())
def test_filters_keep_and_take_away_the_lowest_frequencies(height, width, pick):
    size = pick.draw(st.tuples(st.integers(1, height), st.integers(1, width)))
    x = images(height, width)
    kept = spectrum(x)
    kept[..., size[0] :, :] = 0
    kept[..., size[1] :] = 0
    low = dct.low_pass(x, size)
    np.testing.assert_allclose(spectrum(low), kept, atol=1e-11)
    torch.testing.assert_close(dct.low_pass(low, size), low, atol=1e-12, rtol=0)
    torch.testing.assert_close(low + dct.high_pass(x, size), x, atol=1e-12, rtol=0)
    energy = (low.square() + dct.high_pass(x, size).square()).sum()
    torch.testing.assert_close(energy, x.square().sum())


def test_a_number_is_a_square_and_flipping_a_low_pass_leaves_high_frequencies_alone():
    x = images(12, 9)
    assert torch.equal(dct.low_pass(x, 4), dct.low_pass(x, (4, 4)))
    flipped = torch.from_numpy(spectrum(dct.flip(dct.low_pass(x, 4))))
    assert flipped[..., :8, :].abs().max() < 1e-12
    assert flipped[..., :5].abs().max() < 1e-12


@pytest.mark.parametrize("filtered", [dct.flip, lambda x: dct.low_pass(x, 3), dct.dct2])
def test_precision_follows_the_input(filtered):
    x = images(8, 6, torch.float32)
    assert filtered(x).dtype == torch.float32
    torch.testing.assert_close(filtered(x).double(), filtered(x.double()), atol=2e-6, rtol=0)


def test_windows_tile_the_spectrum_and_their_energies_add_up():
    shape = (2, 12, 12)
    x = images(12, 12)
    tiles = [window for row in spectra.dct_grid(shape, 4, 4) for window in row]
    assert len(tiles) == 9
    torch.testing.assert_close(spectra.energy(x, tiles).sum(1), x.square().sum((1, 2, 3)))
    squares = torch.from_numpy(spectrum(x)).square()
    for k, window in enumerate(spectra.dct_windows(shape, 4, 4)):
        here = squares[..., 4 * k : 4 * k + 4, 4 * k : 4 * k + 4].sum((1, 2, 3))
        torch.testing.assert_close(spectra.energy(x, [window])[:, 0], here)
        torch.testing.assert_close(spectra.energy(x, [tiles[4 * k]])[:, 0], here)


def test_the_printed_windows_are_the_diagonals_of_the_blocks():
    shape = (3, 32, 32)
    diagonals, blocks = spectra.dct_diagonals(shape, 8, 2), spectra.dct_windows(shape, 8, 2)
    assert [d.dim for d in diagonals] == [24] * 13
    for diagonal, block in zip(diagonals, blocks, strict=True):
        atoms = diagonal.basis()
        torch.testing.assert_close(block.project(atoms), atoms, atol=1e-12, rtol=0)
    k = 3  # the window from 2k on, against the spectrum
    found = torch.from_numpy(spectrum(diagonals[k].basis())).square().sum((0, 1))
    expected = torch.zeros(32, 32, dtype=torch.float64)
    expected.diagonal()[2 * k : 2 * k + 8] = 3
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=0)


def test_random_windows_are_orthonormal_seeded_and_know_nothing_of_frequency():
    shape = (1, 20, 20)
    windows = spectra.random_windows(shape, 40, 10, seed=3)
    q = torch.cat([w.basis().flatten(1) for w in windows])
    torch.testing.assert_close(q @ q.T, torch.eye(400, dtype=torch.float64), atol=1e-11, rtol=0)
    again, other = (spectra.random_windows(shape, 40, 10, seed=s) for s in (3, 4))
    assert torch.equal(again[7].basis(), windows[7].basis())
    assert not torch.allclose(other[7].basis(), windows[7].basis())
    # A fixed vector's share of each is Beta(20, 180): mean 0.1, standard deviation 0.021.
    shares = spectra.energy(torch.ones(1, *shape, dtype=torch.float64) / 20, windows)[0]
    assert shares.sum().item() == pytest.approx(1)
    assert (shares - 0.1).abs().max() < 6 * 0.0212


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (
            lambda: dct.flip(torch.zeros(4)),
            r"x must be a real tensor \(…, H, W\), not a float32 tensor \(4,\)",
        ),
        (lambda: dct.flip(torch.zeros(4, 4, dtype=torch.int64)), "not an int64"),
        (lambda: dct.low_pass(torch.zeros(4, 6), 5), "size must be a whole number from 1 to 4, not 5"),
        (lambda: dct.low_pass(torch.zeros(4, 6), (0, 2)), "size .* not 0"),
        (lambda: spectra.dct_grid((1, 8, 8), 9), "size must be a whole number from 1 to 8"),
        (lambda: spectra.dct_grid((1, 8, 8), 4, 0), "step .* of at least 1"),
        (lambda: spectra.random_windows((1, 4, 4), 5, 4), "count .* from 1 to 3, not 4"),
        (lambda: spectra.random_windows((1, 4, 4), 0, 4), "dim .* from 1 to 16, not 0"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(call, says):
    with pytest.raises(ValueError, match=says):
        call()
