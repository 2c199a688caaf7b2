"""Classes outside of the ten largest logits, where the closed form says which is the nearest."""

import warnings

import pytest
import torch
from tests.oracles.margins import affine_margins

from tightrope import margins, spectra
from tightrope.boundary import rivals

SHAPE = (1, 14, 14)
SPACES = [
    spectra.full(SHAPE),
    *spectra.dct_windows(SHAPE, 6, 4)[::2],
    spectra.random_subspace(SHAPE, 3, 1),
]


def classifier(classes, kind, seed=0):
    """Weights (L, 196) and offsets. Of `families` twenty classes each are alike: a point's own family has the largest
    logits and lies far, since its weights hardly differ."""
    draw = torch.Generator().manual_seed(seed)
    weight = torch.randn(classes, 196, generator=draw, dtype=torch.float64)
    if kind == "families":
        weight = 0.05 * weight + weight[torch.arange(classes) // 20]
    return weight, torch.randn(classes, generator=draw, dtype=torch.float64)


def measured(classes, kind, tight, n=30, **options):
    weight, bias = classifier(classes, kind)
    x = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    bases = [None if s.dim == 196 else s.basis().flatten(1).T for s in SPACES]
    exact = torch.stack([affine_margins(weight, bias, x, q) for q in bases], 1)
    return margins.deepfool(
        lambda z: z.flatten(1) @ weight.T + bias, x, SPACES, tight=tight, **options
    ), exact


@pytest.mark.filterwarnings("ignore:.* margins may be too long")
@pytest.mark.parametrize("tight", [0, 12])
@pytest.mark.parametrize("kind", ["random", "families"])
@pytest.mark.parametrize("classes", [100, 1_000])
def test_an_affine_margin_is_exact_among_many_classes(classes, kind, tight):
    m, exact = measured(classes, kind, tight)
    # What decides is a draw: three standard deviations, and one class in a thousand may still be missed.
    assert (m.norm / exact - 1 < 1e-9).double().mean() > 0.98
    assert (m.norm / exact > 1 - 1e-9).all()
    if kind == "families":
        assert (
            m.raw / exact > 2
        ).any()  # as published: the ten largest logits, and nothing nearer is looked at


def test_few_classes_cost_nothing():
    weight, bias = classifier(10, "random")
    seen = []

    def net(z):
        seen.append(len(z))
        return z.flatten(1) @ weight.T + bias

    x = torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    margins.deepfool(net, x)
    ten = sum(seen)
    seen.clear()
    margins.deepfool(net, x, rivals=9)
    assert sum(seen) > ten  # the tenth class is one outside of the rivals, and looked at
    seen.clear()
    margins.deepfool(net, x, rivals=9, wider=0)
    assert sum(seen) <= ten


def test_more_near_classes_than_are_looked_at_are_said():
    with pytest.warns(UserWarning, match="margins may be too long: more than 2 classes"):
        measured(1_000, "families", 0, wider=2)


def test_the_usual_call_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        measured(100, "random", 0)


def test_seeming_distances_come_near_the_linearised_ones():
    weight, bias = classifier(50, "random")
    net = lambda z: z.flatten(1) @ weight.T + bias
    x = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    logits = net(x)
    origin = logits.argmax(1)
    for space in SPACES:
        far = torch.full((6,), 1e3, dtype=torch.float64)  # everything is nearer: all the draws are made
        seem, draws = rivals.seeming_distances(net, x, logits, origin, space, far, origin[:, None])
        slopes = space.coordinates((weight[None] - weight[origin][:, None]).reshape(-1, *SHAPE)).norm(dim=1)
        true = (logits - logits.gather(1, origin[:, None])).abs() / slopes.reshape(6, 50)
        assert (draws == rivals.DRAWS * rivals.ROUNDS).all()
        assert seem.gather(1, origin[:, None]).isinf().all()
        others = torch.arange(50) != origin[:, None]
        ratio = (seem / true)[others]
        assert 0.8 < ratio.median() < 1.25
        assert (ratio < rivals.reach(draws[0])).double().mean() > 0.98


def test_reach_falls_with_the_draws_and_is_the_bound_of_chi_square():
    draws = torch.tensor([4, 8, 16, 32, 1_000])
    reach = rivals.reach(draws)
    assert torch.equal(reach, reach.sort(descending=True).values)
    sample = torch.randn(100_000, 8, generator=torch.Generator().manual_seed(0)).square().mean(1)
    assert ((1 / sample.sqrt()) > reach[1]).double().mean() < 4e-3


@pytest.mark.parametrize("count", [1, 2])
def test_of_equal_distances_the_lowest_class_is_the_nearest(count):
    distances = torch.tensor([[1.0, 2, 1], [1 + 1e-13, 2, 3], [1, 1, 1 - 1e-13]], dtype=torch.float64)
    classes = torch.tensor([[5, 5, 5], [3, 3, 3], [4, 4, 7]])
    chosen = classes.gather(0, rivals.nearest(distances, classes, count, 1e-11))
    assert chosen[0].tolist() == [3, 4, 5]
    if count == 2:
        assert chosen[1].tolist() == [4, 3, 7]
