"""A curve through shares: at which σ is the probability γ?

The curve is Φ(z + b (s/σ - 1)), z = Φ⁻¹(γ), which meets γ at σ = s; the slope there is b > 0. For noise before a single
plane it is exact, with b = z, and it stays close within an octave of s for any number of sheets. All functions take N
points at once: log σ (N, C), hits (N, C) of n (N, C) draws, n = 0 where nothing was drawn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import log_ndtr, ndtr, ndtri

SLOPES = 1.5  # standard deviation of log b before anything is seen; b is around 1
STEEPEST = 6.0  # |log b|
Array = np.ndarray


@dataclass
class Curve:
    """log s (N,), log b (N,), and the standard error (N,) of log s."""

    at: Array
    slope: Array
    error: Array


def fit(log_sigma: Array, hits: Array, n: Array, gamma: float, start: Curve | None = None) -> Curve:
    """The curves of largest posterior, the slopes having a broad normal prior: damped Fisher scoring."""
    z = ndtri(gamma)
    at, slope = (start.at, start.slope) if start else (_nearest(log_sigma, hits, n, z), np.zeros(len(n)))
    best, damping = _likelihood(log_sigma, hits, n, z, at, slope), np.full(len(n), 1e-3)
    for _ in range(25):
        b, t = np.exp(slope)[:, None], _ratio(at, log_sigma)
        v = np.clip(z + b * (t - 1), -8, 8)
        p, q, density = ndtr(v), ndtr(-v), np.exp(-(v**2) / 2) / math.sqrt(2 * math.pi)
        score, weight = density * (hits / p - (n - hits) / q), n * density**2 / (p * q)
        d_at, d_slope = b * t, b * (t - 1)
        g_at, g_slope = (score * d_at).sum(1), (score * d_slope).sum(1) - slope / SLOPES**2
        aa, ab = (weight * d_at**2).sum(1) + 1e-9, (weight * d_at * d_slope).sum(1)
        bb = (weight * d_slope**2).sum(1) + 1 / SLOPES**2
        damped_aa, damped_bb = aa * (1 + damping), bb * (1 + damping)
        whole = damped_aa * damped_bb - ab**2
        step_at = np.clip((damped_bb * g_at - ab * g_slope) / whole, -0.7, 0.7)
        step_slope = np.clip((damped_aa * g_slope - ab * g_at) / whole, -1, 1)
        new_at, new_slope = at + step_at, np.clip(slope + step_slope, -STEEPEST, STEEPEST)
        value = _likelihood(log_sigma, hits, n, z, new_at, new_slope)
        better = value >= best
        at, slope, best = (
            np.where(better, a, b) for a, b in ((new_at, at), (new_slope, slope), (value, best))
        )
        damping = np.where(better, damping / 5, damping * 10)
        if (np.abs(step_at) < 1e-6).all():
            break
    return Curve(at, slope, np.sqrt(bb / np.maximum(aa * bb - ab**2, 1e-12)))


def interval(
    log_sigma: Array, hits: Array, n: Array, gamma: float, curve: Curve, level: float
) -> tuple[Array, Array]:
    """Where log s may lie: up to where the likelihood, the slope made the best of, is too low for `level`."""
    z, wanted = ndtri(gamma), ndtri((1 + level) / 2)
    best = _likelihood(log_sigma, hits, n, z, curve.at, curve.slope)
    ends = []
    for side in (-1, 1):
        away, slope = wanted * curve.error, curve.slope
        for _ in range(5):
            slope = _best_slope(log_sigma, hits, n, z, curve.at + side * away, slope)
            lost = 2 * (best - _likelihood(log_sigma, hits, n, z, curve.at + side * away, slope))
            away = np.clip(away * wanted / np.sqrt(np.maximum(lost, 0.05)), away / 2, away * 2)
        ends.append(curve.at + side * away)
    return ends[0], ends[1]


def _ratio(at: Array, log_sigma: Array) -> Array:
    return np.exp(np.clip(at[:, None] - log_sigma, -30, 4))


def _likelihood(log_sigma: Array, hits: Array, n: Array, z: float, at: Array, slope: Array) -> Array:
    v = z + np.exp(slope)[:, None] * (_ratio(at, log_sigma) - 1)
    return (hits * log_ndtr(v) + (n - hits) * log_ndtr(-v)).sum(1) - slope**2 / (2 * SLOPES**2)


def _best_slope(log_sigma: Array, hits: Array, n: Array, z: float, at: Array, slope: Array) -> Array:
    """Of the curves that meet γ at `at`: Newton's method on the likelihood, its slopes by differences."""
    e = 1e-3
    for _ in range(6):
        below, here, above = (_likelihood(log_sigma, hits, n, z, at, slope + d) for d in (-e, 0.0, e))
        curvature = np.minimum((above - 2 * here + below) / e**2, -1e-3)
        step = np.clip(-(above - below) / (2 * e) / curvature, -1, 1)
        slope = np.clip(slope + step, -STEEPEST, STEEPEST)
    return slope


def _nearest(log_sigma: Array, hits: Array, n: Array, z: float) -> Array:
    """log σ of the share that is nearest to γ."""
    off = np.abs(ndtri((hits + 0.5) / (n + 1)) - z)
    return np.take_along_axis(log_sigma, np.where(n > 0, off, np.inf).argmin(1)[:, None], 1)[:, 0]
