"""How the book draws: one style, a colour-blind safe palette with names, and a few shapes chapters share.

Lengths are inches, font sizes points. Figures are white in dark mode too: a plot's colours mean something.
"""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from tightrope.intervals import quantile

# Okabe and Ito's palette: tells apart under every common colour blindness, and in grey by lightness.
BLACK, ORANGE, SKY, GREEN = "#000000", "#e69f00", "#56b4e9", "#009e73"
YELLOW, BLUE, VERMILION, PURPLE = "#f0e442", "#0072b2", "#d55e00", "#cc79a7"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK)  # yellow lines vanish on white

WIDTH = 5.2  # a page's text column; on a phone (360 px) the 10.5-point letters are still 7 px tall


def style() -> None:
    """Apply the book's style to matplotlib, for this process."""
    mpl.rcParams.update(
        {
            "figure.figsize": (WIDTH, 3.2),
            "figure.dpi": 180,  # what a notebook renders with
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.dpi": "figure",
            "savefig.facecolor": "white",
            "font.size": 10.5,
            "axes.titlesize": 11,
            "axes.labelsize": 10.5,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
            "legend.fontsize": 10,
            "legend.frameon": False,
            "axes.prop_cycle": mpl.cycler(color=PALETTE),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "grid.color": "#dddddd",
            "grid.linewidth": 0.6,
            "lines.linewidth": 1.8,
            "lines.markersize": 5,
        }
    )


def panels(rows: int = 1, columns: int = 1, height: float = 3.2, **options) -> tuple[Figure, np.ndarray]:
    """A figure of the page's width with rows x columns axes; `height` is one row's.

    Returns the figure and its axes as an array (rows, columns), whatever the numbers.
    """
    return plt.subplots(rows, columns, figsize=(WIDTH, height * rows), squeeze=False, **options)


def percentile_band(
    axes: Axes,
    at: Sequence[float],
    values: np.ndarray,
    *,
    percentiles: tuple[float, float, float] = (5, 50, 95),
    color: str | None = None,
    label: str | None = None,
) -> None:
    """A line through the middle percentile with a band between the outer two.

    at: (K,) positions; values: (N, K), or K arrays of any lengths; entries that are not finite (censored
    margins) count as larger than every other, so a percentile that falls among them is left out.
    """
    columns = values.T if isinstance(values, np.ndarray) and values.ndim == 2 else values
    if len(columns) != len(at):
        raise ValueError(
            f"percentile_band needs one column of values a position, not {len(columns)} for {len(at)}."
        )
    low, middle, high = np.array([_percentiles(column, percentiles) for column in columns]).T
    (line,) = axes.plot(at, middle, color=color, label=label)
    axes.fill_between(at, low, high, color=line.get_color(), alpha=0.18, linewidth=0)


def _percentiles(values: np.ndarray, at: Sequence[float]) -> np.ndarray:
    """Percentiles; nan, which is not drawn, where they fall among values that are not finite."""
    values = np.asarray(values, dtype=float).ravel()
    if not len(values):
        raise ValueError("A percentile of no values: percentile_band got an empty column.")
    found = quantile(np.where(np.isfinite(values), values, np.inf), np.asarray(at) / 100)
    return np.where(np.isfinite(found), found, np.nan)


def log_axes(axes: Axes, which: str = "xy") -> None:
    """Logarithmic axes whose ticks are plain numbers: 1, 2, 5 of each decade, over more decades 1, 3 or 1 alone."""
    for name in which:
        axis = getattr(axes, f"{name}axis")
        getattr(axes, f"set_{name}scale")("log")
        low, high = axis.get_view_interval()
        decades = np.log10(high / low)
        subs = (1, 2, 5) if decades < 1.5 else (1, 3) if decades < 2.5 else (1,)
        axis.set_major_locator(LogLocator(subs=subs))
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}" if v < 1e4 else f"{v / 1e3:g}k"))
        axis.set_minor_formatter(NullFormatter())


def reference(axes: Axes, value: float, label: str, *, horizontal: bool = True) -> None:
    """A thin dashed line at a published or exact value, named in the legend."""
    draw = axes.axhline if horizontal else axes.axvline
    draw(value, color=BLACK, linestyle=(0, (4, 3)), linewidth=1.1, label=label)
