"""Spectra of samples on a boundary: an orthant's sheets are counted, a plane has one."""

import math

import numpy as np
import pytest
import torch

from tightrope import degeneracy, wedges


def counted(k, seed, null, dim=50, n=2_000, noise=0.0):
    """The directions missing at the apex of an orthant of k sheets."""
    cloud = degeneracy.gaussian(n, dim, seed=seed, dtype=torch.float64)
    on = wedges.orthant(dim, k).to_boundary(cloud)
    on = on + noise * degeneracy.gaussian(n, dim, seed=seed + 10_000, dtype=torch.float64)
    return degeneracy.count(degeneracy.spectrum(on, seed=seed).values, null)


@pytest.fixture(scope="module")
def null():
    return degeneracy.plane_spectra(2_000, 50, repeats=40)


@pytest.mark.parametrize("k", [1, 2, 5, 10, 20])
def test_sheets_are_counted_at_the_apex(k, null):
    assert [counted(k, seed, null) for seed in range(3)] == [k] * 3


@pytest.mark.long
def test_sheets_are_counted_in_ninety_nine_of_a_hundred_trials(null):
    for k in range(1, 21):
        right = np.mean([counted(k, seed, null) == k for seed in range(500)])
        assert right >= 0.99, (k, right)


def test_a_flat_sample_is_flat_and_has_the_expected_size():
    x = degeneracy.flat(200, 30, seed=1, dtype=torch.float64)
    values = torch.linalg.svdvals(x)
    torch.testing.assert_close(values, torch.full_like(values, math.sqrt(200)))
    assert degeneracy.flat(200, 30, seed=1).dtype == torch.float32
    # As the source has it, Σ replaced by its largest value, the Frobenius norm is another one.
    sigma = torch.linalg.svdvals(degeneracy.gaussian(200, 30, seed=1, dtype=torch.float64))
    assert sigma[0] * math.sqrt(30) > 1.2 * sigma.norm()
    assert values.norm() == pytest.approx(sigma.norm().item(), rel=0.05)


@pytest.mark.parametrize("of", degeneracy.OF)
def test_values_are_singular_values_over_the_root_of_the_rows(of):
    rows = torch.randn(501, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 5
    s = degeneracy.spectrum(rows, of=of)
    flat = rows.flatten(1)
    if of == "points":
        torch.testing.assert_close(s.values, torch.linalg.svdvals(flat) / math.sqrt(501))
        assert s.values[0] > 10 * s.values[1]
        assert abs(s.vectors[0].sum() / math.sqrt(6)) > 0.99
    elif of == "centred":
        torch.testing.assert_close(
            s.values**2, torch.linalg.eigvalsh(torch.cov(flat.T, correction=0)).flip(0)
        )
    else:
        assert 0.8 < s.values.min() < s.values.max() < 1.25
    torch.testing.assert_close(s.vectors @ s.vectors.T, torch.eye(6, dtype=torch.float64))
    single = degeneracy.spectrum(rows.float(), of=of)
    torch.testing.assert_close(single.values.double(), s.values, rtol=1e-5, atol=1e-5)


def test_a_plane_lacks_its_normal_and_nothing_else(null):
    assert null.shape == (40, 50)
    assert null[:, -1].max() < 1e-7
    assert null[:, -2].min() > 0.7
    fresh = degeneracy.plane_spectra(2_000, 50, repeats=200, seed=1_000)
    assert np.mean([degeneracy.count(values, null) == 1 for values in fresh]) >= 0.99
    level = degeneracy.flat(300, 20, dtype=torch.float64)
    level[:, 0] = 0
    values = degeneracy.spectrum(level, of="points").values
    torch.testing.assert_close(values[:-1], torch.ones(19, dtype=torch.float64))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: degeneracy.flat(20, 30), "n must be a whole number of at least 30"),
        (lambda: degeneracy.gaussian(0, 3), "n must be a whole number"),
        (
            lambda: degeneracy.spectrum(torch.ones(1, 3)),
            "the number of rows must be a whole number of at least 2",
        ),
        (lambda: degeneracy.spectrum(torch.ones(4, 3) * math.nan), "rows must be a finite real tensor"),
        (lambda: degeneracy.spectrum(torch.ones(4, 3), of="sums"), "of must be one of"),
        (lambda: degeneracy.count(torch.ones(3), torch.ones(2, 4)), "null must be a finite real tensor"),
        (lambda: degeneracy.plane_spectra(9, 3, of="sums"), "of must be one of"),
    ],
)
def test_what_has_no_spectrum_is_refused(call, says):
    with pytest.raises(ValueError, match=rf"^{says}.*\.$"):
        call()
