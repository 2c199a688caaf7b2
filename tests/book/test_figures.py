import io

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tightrope.book import figures


@pytest.fixture(autouse=True)
def _own_style():
    with mpl.rc_context():
        yield
    plt.close("all")


def test_pages_get_sharp_white_figures_of_the_columns_width():
    figures.style()
    figure, axes = plt.subplots()
    axes.plot([0, 1])
    file = io.BytesIO()
    figure.savefig(file)
    image = Image.open(file).convert("RGB")
    assert image.width == pytest.approx(figures.WIDTH * 180, abs=1)
    assert image.getpixel((0, 0)) == (255, 255, 255)
    assert mpl.rcParams["font.size"] >= 10


def _luminance(color):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in mpl.colors.to_rgb(color)]
    return np.dot(linear, (0.2126, 0.7152, 0.0722))


def test_every_line_colour_shows_on_white():
    contrast = [1.05 / (_luminance(color) + 0.05) for color in figures.PALETTE]
    assert min(contrast) > 2
    assert len(set(figures.PALETTE)) == len(figures.PALETTE)


def test_panels_are_always_an_array():
    for shape in ((1, 1), (2, 3)):
        figure, axes = figures.panels(*shape)
        assert axes.shape == shape
        assert figure.get_size_inches()[0] == pytest.approx(figures.WIDTH)


def test_percentile_band_draws_the_percentiles():
    values = np.random.default_rng(0).normal(size=(101, 3))
    _, axes = plt.subplots()
    figures.percentile_band(axes, [0, 1, 2], values, label="x")
    (line,) = axes.get_lines()
    assert np.allclose(line.get_ydata(), np.percentile(values, 50, axis=0))
    edge = axes.collections[0].get_paths()[0].vertices[:, 1]
    for q in (5, 95):
        for expected in np.percentile(values, q, axis=0):
            assert np.abs(edge - expected).min() < 1e-12


def test_censored_values_rank_above_all_others():
    column = np.array([np.inf, 1.0, np.nan, 3.0, 2.0])
    _, axes = plt.subplots()
    figures.percentile_band(axes, [0], [column], percentiles=(25, 50, 75))
    assert axes.get_lines()[0].get_ydata()[0] == 3.0
    assert figures._percentiles(column, (0, 50)).tolist() == [1.0, 3.0]
    assert np.isnan(figures._percentiles(column, (60, 100))).all()


def test_reference_is_named():
    _, axes = plt.subplots()
    figures.reference(axes, 2.5, "published")
    figures.reference(axes, 1.0, "gap", horizontal=False)
    assert [line.get_label() for line in axes.get_lines()] == ["published", "gap"]
    assert axes.get_lines()[0].get_ydata() == [2.5, 2.5]
    assert axes.get_lines()[1].get_xdata() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("high", "expected"),
    [
        (20, ["1", "2", "5", "10", "20"]),
        (90, ["1", "3", "10", "30"]),
        (5e4, ["1", "10", "100", "1000", "10k"]),
    ],
)
def test_log_axes_have_plain_numbers_at_their_ticks(high, expected):
    fig, axes = figures.panels()
    ax = axes[0, 0]
    ax.plot([1, high], [1, high])
    figures.log_axes(ax)
    fig.canvas.draw()
    texts = [label.get_text() for label in ax.get_xticklabels()]
    assert [t for t in texts if t in expected] == expected
    assert not any(label.get_text() for label in ax.get_xticklabels(minor=True))
    plt.close(fig)
