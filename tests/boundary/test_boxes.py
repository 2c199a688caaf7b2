"""The sets that attacks stay in, and that a flipped attack is the attack seen in a mirror."""

import math

import pytest
import torch

from tightrope import attacks, boxes, data, seeds, spectra
from tightrope.boundary.boxes import Flipped, Interval, dykstra

EPS = torch.finfo(torch.float64).eps


def images(n=12, dtype=torch.float64):
    """Digits: most of their pixels lie on the edge of the box."""
    return data.load("mnist", "test", n=n)[0].to(dtype)


def noise(like, length, seed=0):
    delta = torch.randn(like.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (length * delta / delta.flatten(1).norm(dim=1)[:, None, None, None]).to(like.dtype)


def nearest(x, point, radius, box):
    """The nearest point of box and ℓ2 ball by its multiplier: clip((point + m x) / (1 + m)), m by bisection."""
    low, high = torch.zeros(len(x), 1, 1, 1), torch.full((len(x), 1, 1, 1), 1e9, dtype=x.dtype)
    for _ in range(200):
        middle = (low + high) / 2
        there = box.clip((point + middle * x) / (1 + middle))
        far = (there - x).flatten(1).norm(dim=1)[:, None, None, None] > radius
        low, high = torch.where(far, middle, low), torch.where(far, high, middle)
    return box.clip((point + high * x) / (1 + high))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_flipped_box_holds_the_flips_of_a_box(dtype):
    x = images(dtype=dtype)
    box = Flipped()
    assert box.inside(spectra.flip(x)).all()
    assert not Interval().inside(spectra.flip(x)).any()
    assert not box.inside(spectra.flip(x + 0.01)).any()
    assert box.width == Interval().width == 1
    away = spectra.flip(x) + noise(x, 3.0)
    clipped = box.clip(away)
    assert box.inside(clipped).all()
    tolerance = 1e2 * torch.finfo(dtype).eps
    torch.testing.assert_close(clipped, spectra.flip(spectra.flip(away).clamp(0, 1)))
    torch.testing.assert_close(box.clip(clipped), clipped, rtol=0, atol=tolerance)


def test_a_box_is_read_from_two_numbers():
    assert boxes.read((-1, 2)) == Interval(-1, 2)
    assert boxes.read(None) is None
    assert boxes.read(Flipped(0, 2)) == Flipped(0, 2) != Interval(0, 2)
    assert [str(box) for box in (Interval(0.0, 1.0), Flipped())] == ["(0.0, 1.0)", "of flips of (0.0, 1.0)"]
    for bad in ((1, 0), (0, math.nan), "box", 3):
        with pytest.raises(ValueError, match="box"):
            boxes.read(bad)
    with pytest.raises(ValueError, match=r"^high must be a finite number above 1"):
        Flipped(1, 1)


@pytest.mark.parametrize("box", [Interval(), Flipped()], ids=str)
@pytest.mark.parametrize("away", [0.5, 2.0])
def test_dykstra_finds_the_nearest_point_of_ball_and_box(box, away):
    x = images() if box == Interval() else spectra.flip(images())
    radius = 2.0
    edge = nearest(x, x + noise(x, 20.0), radius, box)  # where a step leaves from, on the edge of both
    point = edge + noise(x, away, seed=1)
    exact = nearest(x, point, radius, box)
    found = x + dykstra(x, point - x, radius, "l2", box, rounds=60)
    in_turn = box.clip(x + boxes.inside(point - x, radius, "l2"))
    far = lambda there: (there - exact).flatten(1).norm(dim=1)
    assert far(found).max() < 1e-9
    assert far(in_turn).min() > 1e-4  # in both sets, and not the nearest
    assert far(x + dykstra(x, point - x, radius, "l2", box)).max() < 1e-2 * far(in_turn).max()


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_what_is_shortened_keeps_its_direction_and_never_grows(norm):
    delta = noise(images(), 3.0)
    order = 2 if norm == "l2" else math.inf
    length = delta.flatten(1).norm(p=order, dim=1)
    for radius in (0.5 * length.min().item(), 2 * length.max().item()):
        short = boxes.shortened(delta, radius, norm)
        torch.testing.assert_close(
            short.flatten(1).norm(p=order, dim=1), length.clamp_max(radius), rtol=32 * EPS, atol=0
        )
        torch.testing.assert_close(
            torch.nn.functional.cosine_similarity(short.flatten(1), delta.flatten(1)), torch.ones_like(length)
        )


def smooth(z):
    """Ten logits without a kink, from one hidden layer of random weights."""
    g = seeds.generator(0, "smooth")
    first, second = (torch.randn(*shape, generator=g, dtype=z.dtype) for shape in ((784, 30), (30, 10)))
    return (z.flatten(1) @ first / 15).tanh() @ second


def mirrored(z):
    return smooth(spectra.flip(z))


@pytest.mark.parametrize("projection", ["in turn", "dykstra"])
@pytest.mark.parametrize("keep", ["first", "last", "worst"])
def test_an_attack_on_the_flipped_network_in_the_flipped_box_is_the_flip_of_the_attack(keep, projection):
    x = images(16)
    y = smooth(x).argmax(1)
    how = {"eps": 0.25, "steps": 6, "keep": keep, "random_start": False, "projection": projection}
    plain = attacks.pgd(smooth, x, y, **how)
    there = attacks.pgd(mirrored, spectra.flip(x), y, box=Flipped(), **how)
    assert plain.found.any()
    assert not plain.found.all()
    assert torch.equal(there.found, plain.found)
    torch.testing.assert_close(spectra.flip(there.images), plain.images, rtol=0, atol=1e-9)


@pytest.mark.parametrize("name", ["ddn", "fmn", "carlini_wagner"])
def test_the_shortest_perturbations_of_a_flipped_network_are_as_short(name):
    x = images(6)
    y = smooth(x).argmax(1)
    how = {"steps": 20, "searches": 2} if name == "carlini_wagner" else {"steps": 30}
    plain = getattr(attacks, name)(smooth, x, y, **how)
    there = getattr(attacks, name)(mirrored, spectra.flip(x), y, box=Flipped(), **how)
    assert plain.found.any()
    assert torch.equal(there.found, plain.found)
    assert Flipped().inside(there.images).all()
    # Adam steps coordinate by coordinate, which is no walk that a mirror keeps.
    tolerance = 0.2 if name == "carlini_wagner" else 1e-6
    torch.testing.assert_close(
        there.norm(), plain.norm(), rtol=tolerance, atol=0
    )  # infinite where none was found


def test_tanh_space_needs_an_interval():
    x = images(2)
    with pytest.raises(ValueError, match=r"^loss='margin' walks in tanh space"):
        attacks.carlini_wagner(
            smooth, spectra.flip(x), smooth(x).argmax(1), loss="margin", steps=1, searches=1, box=Flipped()
        )
