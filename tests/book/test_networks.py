"""The book's list of networks; how they are kept is in test_runs."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from tightrope import data, nets, training, views
from tightrope.book import networks, runs
from tightrope.book.checkout import PROFILES

CHAPTER = "01-synthetic-margins"


@pytest.mark.parametrize("name", networks.BOOK)
def test_every_network_sees_its_view(name):
    found = networks.BOOK[name]
    view = views.view(found.view)
    net = found.build(0, mean=view.mean, std=view.std).eval()
    with torch.no_grad():
        logits = net(torch.rand(1, *view.shape, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (1, 2 if found.classes else view.classes)
    assert networks._code(net, found.recipe.against) is not None
    if found.recipe.against:
        images = torch.rand(2, *views.view(view.source).shape, generator=torch.Generator().manual_seed(0))
        found.recipe.against.check(view.see(images))  # its box holds what the network sees
    assert bool(found.title) == bool(found.classes)  # those of chapter 4 are called by it


def test_sizes_follow_profile_and_device():
    sizes = [networks.book("mnist lenet", p).sizes for p in PROFILES]
    assert [s["train"] for s in sizes] == [1_000, None, None]
    assert [networks.book("mnist lenet", p).recipe(60_000).epochs for p in PROFILES[1:]] == [2, 30]
    assert networks.book("mnist lenet", "paper", "cuda").recipe(60_000).epochs == 30
    assert networks.book("mnist lenet", "quick").recipe(1_000).epochs == 30
    assert (
        networks.book("cifar10 resnet9", "paper", "cuda").sizes
        == networks.book("cifar10 resnet9", "paper").sizes
    )
    assert networks.book("cifar10 densenet121", "paper", "cuda").sizes["epochs"] == 30
    for profile, device in (("quick", "cuda"), ("paper", "cpu")):
        with pytest.raises(ValueError, match="no size in the"):
            networks.book("cifar10 densenet121", profile, device)


def test_a_table_of_sizes_takes_the_first_network_that_has_any():
    assert networks.sizes("mnist lenet") == (
        (1_000, 1, 3_000, 200),
        (None, 1, 120_000, None),
        (None, 1, 1_800_000, None),
    )
    small, large = "half-size imagenette128 resnet9", "imagenette128 resnet50"
    assert networks.sizes(large, small) == (None, None, (None, 2, 2, None))
    assert networks.sizes(large, small, device="cuda") == (None, None, (None, 1, 30, None))
    assert networks.sizes(large) == (None, None, None)


def test_a_name_is_the_same_training_as_its_parts(book):
    run = runs.start(CHAPTER, "smoke", seed=1)
    net, log = run.network("flipped mnist lenet")
    view = views.view("flipped mnist")
    x, y = view.load("train", 1_000, seed=0)
    make = lambda seed: nets.lenet(seed, mean=view.mean, std=view.std)
    again, by_parts = run.network(make, x, y, replace(training.HMT, epochs=3), 1, *view.load("test", 200))
    assert log == by_parts
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), again.parameters(), strict=True))
    assert len(list((book / "build" / "networks").iterdir())) == 1


def test_two_classes_become_one_and_zero():
    x, y = networks.book("digits cross-entropy", "smoke").images("train")
    images, labels = data.load("mnist", "train")
    rows = [i for i in range(len(labels)) if labels[i] in (3, 7)][:200]
    assert torch.equal(x, images[rows])
    assert torch.equal(y, (labels[rows] == 7).long())


def test_copies_of_training_images_alone(monkeypatch):
    colour = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(data, "load", lambda *given, **options: (colour, torch.arange(4)))
    plan = networks.book("flipped half-size imagenette128 resnet9", "paper")
    x, y = plan.images("train", seed=3)
    copied, _ = training.augmented(colour, torch.arange(4), 2, seed=3)
    expected = views.view("flipped half-size imagenette128").see(copied)
    assert torch.equal(x, expected)
    assert y.tolist() == [0, 1, 2, 3] * 2
    assert len(plan.images("test")[0]) == 4


def test_unknown_names():
    for name in ("lenet", "mnist resnet", "mnist"):
        with pytest.raises(ValueError, match="has no network"):
            networks.book(name, "quick")
    with pytest.raises(ValueError, match="Unknown view"):
        networks.book("blurred mnist lenet", "quick")
