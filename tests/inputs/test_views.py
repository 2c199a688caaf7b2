"""A data set under another name: the images where they are, seen flipped or filtered."""

import numpy as np
import pytest
import torch

from tightrope import data, nets, views
from tightrope.inputs import dct


@pytest.fixture
def colour(tmp_path, monkeypatch):
    """A small data set of CIFAR-10's form, where `data` looks."""
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "cifar10.npz",
        x_train=rng.integers(0, 256, (20, 32, 32, 3), np.uint8),
        y_train=np.arange(20) % 10,
        x_test=rng.integers(0, 256, (10, 32, 32, 3), np.uint8),
        y_test=np.arange(10),
    )
    monkeypatch.setenv("TIGHTROPE_DATA", str(tmp_path))


@pytest.mark.parametrize(
    "name", ["mnist", "flipped mnist", "low-pass cifar10", "flipped half-size imagenette128"]
)
def test_a_view_is_its_name(name):
    view = views.view(name)
    assert view.name == name
    assert view == views.view(view.name)
    assert view.source in data.DATA_SETS


def test_a_view_loads_the_same_images_seen_its_way(colour):
    x, y = data.load("cifar10", "train", n=7, seed=2)
    expected = {
        "plain": x,
        "flipped": dct.flip(x),
        "low-pass": dct.low_pass(x, 16),
        "high-pass": dct.high_pass(x, 16),
    }
    for way, images in expected.items():
        view = views.view("cifar10" if way == "plain" else f"{way} cifar10")
        got, labels = view.load("train", n=7, seed=2)
        assert torch.equal(got, images)
        assert torch.equal(labels, y)
        assert (view.shape, view.classes) == ((3, 32, 32), 10)


def test_many_images_are_seen_as_few_are(colour, monkeypatch):
    view = views.view("flipped cifar10")
    whole = view.load("train")[0]
    monkeypatch.setattr(views, "BLOCK", 3 * 32 * 32 * 3)
    torch.testing.assert_close(view.load("train")[0], whole, atol=1e-6, rtol=0)


def test_ways_stack_and_the_one_next_to_the_data_comes_first(colour):
    x = data.load("cifar10", "test")[0]
    small = x.unflatten(2, (16, 2)).unflatten(4, (16, 2)).mean((3, 5))
    view = views.view("flipped half-size cifar10")
    torch.testing.assert_close(view.load("test")[0], dct.flip(small), atol=1e-5, rtol=0)
    assert view.shape == (3, 16, 16)
    # A constant image stays one at half the size, and so does what a network subtracts.
    mean = views.view("half-size cifar10").mean
    torch.testing.assert_close(mean, views.view("cifar10").mean.expand(3, 16, 16), atol=1e-7, rtol=0)
    torch.testing.assert_close(view.mean, dct.flip(mean), atol=1e-5, rtol=0)


def test_normalisation_follows_the_view(colour):
    """A flipped network's first layer does to flipped images what the plain one's does to plain ones, flipped."""
    plain, flipped = views.view("cifar10"), views.view("flipped cifar10")
    x = plain.load("test")[0]
    seen = nets.Normalise(flipped.mean, flipped.std)(flipped.see(x))
    # The published normalisation divides by the same std everywhere, so it commutes with the flip channel by channel.
    torch.testing.assert_close(seen, dct.flip(nets.Normalise(plain.mean, plain.std)(x)), atol=1e-5, rtol=0)
    assert plain.mean.shape == (3, 1, 1)
    low, high = views.view("low-pass cifar10").mean, views.view("high-pass cifar10").mean
    torch.testing.assert_close(low, plain.mean.expand(3, 32, 32), atol=1e-6, rtol=0)
    torch.testing.assert_close(high, torch.zeros(3, 32, 32), atol=1e-6, rtol=0)


BAD = ["", "flipped", "mirrored mnist", "flipped  mnist", "flipped mnist ", "plain mnist", None, 3]


@pytest.mark.parametrize("name", BAD)
def test_an_unknown_view_is_refused_with_what_there_is(name):
    with pytest.raises(
        ValueError,
        match=r"Unknown view .* after one of flipped, low-pass, high-pass, half-size|name must be a str",
    ):
        views.view(name)
