"""MI-FGSM is its published recurrence, whoever leaves on the way, and the basic iterative method without momentum."""

import pytest
import torch
from tests.boundary.test_attacks import affine
from torch.nn.functional import cross_entropy

from tightrope import attacks, nets, seeds

STEPS = 20


def case(n=24):
    """A ReLU network in float64 and points away from every edge of the box."""
    g = seeds.generator(0, "momentum")
    x = 0.3 + 0.4 * torch.rand(n, 1, 6, 6, generator=g, dtype=torch.float64)
    net = nets.mlp(36, (40, 40), 4, seed=2).double()
    return net, x, net(x).argmax(1)


def published(net, x, labels, eps, steps, decay, norm, targeted, box):
    """Algorithm 1 and section 3.3 of Dong et al. 2018, and the images after each step."""
    g, at, alpha = torch.zeros_like(x), x, eps / steps
    each = lambda size: size[:, None, None, None]
    for _ in range(steps):
        z = at.clone().requires_grad_()
        (slope,) = torch.autograd.grad(cross_entropy(net(z), labels, reduction="sum"), z)
        g = decay * g + slope / each(slope.flatten(1).abs().sum(1))
        towards = g.sign() if norm == "linf" else g / each(g.flatten(1).norm(dim=1))
        at = (at - alpha * towards) if targeted else (at + alpha * towards)
        at = at if box is None else at.clamp(*box)
        yield at


@pytest.mark.parametrize("box", [None, (0.25, 0.75)])
@pytest.mark.parametrize("targeted", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.9, 1.0])
@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.2), ("l2", 1.0)])
def test_it_is_the_published_recurrence(norm, eps, decay, targeted, box):
    net, x, labels = case()
    labels = (labels + targeted) % 4
    how = {"norm": norm, "decay": decay, "targeted": targeted, "box": box, "loss": "cross-entropy"}
    (*_, end) = published(net, x, labels, eps, STEPS, decay, norm, targeted, box)
    a = attacks.mi_fgsm(net, x, labels, eps=eps, steps=STEPS, keep="last", **how)
    torch.testing.assert_close(a.images, end, rtol=0, atol=1e-9)
    assert torch.equal(a.found, (net(end).argmax(1) == labels) == targeted)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_momentum_of_rows_that_stay_is_their_own(norm):
    """Some rows are found before the eighth step and leave; the first success of the others is the recurrence's too."""
    net, x, labels = case(60)
    labels = net(x).topk(3).indices[:, 2]
    eps = {"linf": 0.6, "l2": 3.0}[norm]
    how = {"norm": norm, "targeted": True, "box": None, "loss": "cross-entropy"}
    walk = [x, *published(net, x, labels, eps, STEPS, 1.0, norm, True, None)]
    over = torch.stack([net(at).argmax(1) == labels for at in walk])
    first = over.to(torch.int8).argmax(0)
    assert (over.any(0) & (first < 8)).any()
    assert (over.any(0) & (first > 8)).any()
    a = attacks.mi_fgsm(net, x, labels, eps=eps, steps=STEPS, **how)
    assert torch.equal(a.found, over.any(0))
    images = torch.stack(walk)[first, torch.arange(len(x))]
    expected = torch.where(a.found[:, None, None, None], images, x)
    torch.testing.assert_close(a.images, expected, rtol=0, atol=1e-9)


def test_without_momentum_it_is_the_basic_iterative_method():
    model, _, _, x, labels = affine(5)
    for norm in ("linf", "l2"):
        for keep in ("first", "last", "worst"):
            how = {"eps": 0.3, "norm": norm, "step": 0.05, "keep": keep, "box": None}
            a, b = attacks.mi_fgsm(model, x, labels, decay=0.0, **how), attacks.bim(model, x, labels, **how)
            torch.testing.assert_close(a.images, b.images, rtol=0, atol=1e-12)
            assert torch.equal(a.found, b.found)
