"""Robust radii against closed forms, all candidates for a nearest point, and attacks, none of which may beat them."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from tightrope import attacks, certificates, nets

DOUBLE = torch.float64


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


def two(w, c, a, b):
    """The network a relu(w x + c) + b."""
    w, c, a, b = (torch.as_tensor(part, dtype=DOUBLE) for part in (w, c, a, b))
    net = nn.Sequential(nn.Linear(w.shape[1], len(w)), nn.ReLU(), nn.Linear(len(w), len(a))).double()
    with torch.no_grad():
        for own, given in zip(net.parameters(), (w, c, a, b), strict=True):
            own.copy_(given)
    return net


def random_net(d, hidden, outputs, seed=0, spread=1.0):
    """Neurons whose hyperplanes pass the points of `draw`; `spread` below 1 makes them nearly parallel."""
    w = draw(hidden, d, seed=seed)
    w = (1 - spread) * w[:1] * torch.sign(draw(hidden, 1, seed=seed + 1)) * 3 + spread * w
    return two(
        w, draw(hidden, seed=seed + 2), draw(outputs, hidden, seed=seed + 3), draw(outputs, seed=seed + 4)
    )


def lead(net, x, merge, group):
    """By how much a group's largest output is ahead at x (N, d); one output's sign is a group of its own."""
    with torch.no_grad():
        outputs = net(x)
    if outputs.shape[1] == 1:
        outputs = torch.cat([-outputs, outputs], 1)
    mine = merge == group
    return outputs[:, mine].amax(1) - outputs[:, ~mine].amax(1)


def nearest(net, x, merge=None):
    """The radius at x (d,) from all that could be the nearest point, in few dimensions.

    That is the point nearest to x where some neurons are 0 and some outputs tie, for some activation pattern's formula
    of the outputs; the network itself says which of these points are decided otherwise.
    """
    w, c, a, b = (part.detach().numpy() for part in net.parameters())
    if len(a) == 1:
        a, b = np.vstack([-a, a]), np.concatenate([-b, b])
    merge = torch.arange(len(a)) if merge is None else merge
    at = a @ np.maximum(w @ x.numpy() + c, 0) + b
    group = merge[int(at.argmax())]
    own, rivals = (np.flatnonzero((merge == group).numpy() == is_own) for is_own in (True, False))
    t, points = w @ x.numpy() + c, []
    for on in itertools.product((0.0, 1.0), repeat=len(w)):
        for j in rivals:
            e = (a[j] - a[own]) * np.array(on)
            planes = np.vstack([e @ w, w])
            levels = np.concatenate([e @ t + b[j] - b[own], t])
            for count in range(1, len(x) + 1):
                chosen = np.array(list(itertools.combinations(range(len(planes)), count)))
                points.append(-(np.linalg.pinv(planes[chosen]) @ levels[chosen, None])[..., 0])
    moves = torch.from_numpy(np.concatenate(points))
    over = lead(net, x + moves, merge, group) <= 1e-9
    return moves[over].norm(dim=1).min().item() if over.any() else math.inf


def test_an_affine_network_has_its_closed_form():
    w, b = draw(1, 7), 0.3
    net = two(torch.cat([w, -w]), [0, 0], [[1, -1]], [b])  # relu(z) − relu(−z) = z
    x = draw(9, 7, seed=1)
    r = certificates.radius(net, x)
    expected = (x @ w[0] + b).abs() / w.norm()
    torch.testing.assert_close(r.low, expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(r.high, expected, rtol=1e-8, atol=0)
    assert r.exact.all()
    assert (r.low <= expected).all()
    assert (r.high >= expected).all()


@pytest.mark.parametrize("neurons", [0, 12])
def test_the_corner_of_a_quadrant_is_the_nearest_point(neurons):
    """f = −min(x₁, x₂) is not positive in a quadrant: from (−3, −4) its corner is nearest, from (5, −2) a side."""
    net = two([[1, 0], [-1, 0], [1, -1]], [0, 0, 0], [[-1, 1, 1]], [0])
    x = torch.tensor([[-3.0, -4], [5, -2], [3, 4], [4, 3], [0, 7]], dtype=DOUBLE)
    expected = torch.tensor([5.0, 2, 3, 3, 0], dtype=DOUBLE)
    r = certificates.radius(net, x, neurons=neurons)
    assert (r.low <= expected).all()
    assert (r.high >= expected).all()
    if neurons:
        assert r.exact.all()
        assert r.high.tolist() == pytest.approx(expected.tolist(), rel=1e-8)


@pytest.mark.parametrize(
    ("d", "hidden", "spread"), [(2, 6, 1), (2, 5, 0.1), (3, 4, 1), (3, 4, 1e-3), (4, 3, 1)]
)
@pytest.mark.parametrize(("outputs", "merge"), [(1, None), (3, None), (4, (7, -2, 7, 7))])
def test_the_exact_radius_is_the_least_over_all_candidates(d, hidden, spread, outputs, merge):
    merge = None if merge is None else torch.tensor(merge)
    for seed in (0, 10):
        net, x = random_net(d, hidden, outputs, seed, spread), draw(4, d, seed=seed + 5)
        r = certificates.radius(net, x, merge=merge)
        assert r.exact.all()
        expected = [nearest(net, row, merge) for row in x]
        assert r.high.tolist() == pytest.approx(expected, rel=1e-7)
        assert r.low.tolist() == pytest.approx(expected, rel=1e-7)


def test_no_point_of_a_dense_search_lies_inside_the_radius():
    """1,000 directions, 100 points each, up to the radius itself: all are decided as x is. A little beyond one is not.

    The points are within half a step of any other: 2π/2,000 of the radius along the circle, 1/200 towards it.
    """
    angle = torch.linspace(0, 2 * math.pi, 1_000, dtype=DOUBLE)
    ring = torch.stack([angle.cos(), angle.sin()], 1)
    disc = (torch.linspace(0, 1, 100, dtype=DOUBLE)[:, None, None] * ring).reshape(-1, 2)
    for seed in (0, 1, 3, 4, 5, 6):
        net, x = random_net(2, 10, 1, seed), draw(1, 2, seed=seed + 5)
        r = certificates.radius(net, x)
        with torch.no_grad():
            sign = net(x).sign()
            assert (net(x + r.low * disc).sign() == sign).all()
            assert (net(x + 1.05 * r.high * disc).sign() != sign).any()


@pytest.mark.parametrize("outputs", [1, 2, 5])
def test_bounds_are_in_order_and_below_the_radius(outputs):
    for seed in range(4):
        net = random_net(6, 7, outputs, seed, spread=(1, 0.2)[seed % 2])
        x = draw(30, 6, seed=seed + 5)
        exact, bounded = certificates.radius(net, x), certificates.radius(net, x, neurons=0)
        assert exact.exact.all()
        assert (exact.low <= exact.high).all()
        assert (bounded.low <= exact.high).all()
        assert (bounded.high >= exact.low).all()
        _, relaxed, local, product = bounded.bounds.T
        assert (product <= local * (1 + 1e-12)).all()
        assert (local <= relaxed * (1 + 1e-12)).all()
        assert (bounded.bounds[:, 0] == 0).all()
        assert (local > 1.2 * product).any()
        assert (relaxed > 1.05 * local).any()
        torch.testing.assert_close(
            bounded.low, bounded.bounds.gather(1, bounded.used[:, None])[:, 0].minimum(bounded.high)
        )
        assert {certificates.BOUNDS[k] for k in exact.used.tolist()} >= {"exact"}


def test_the_product_bound_is_the_margin_over_the_norms():
    """In one dimension of weights every product agrees: q / (‖a‖ ‖w‖)."""
    net = two([[3.0, 4]], [2], [[-0.5]], [4])
    x = draw(5, 2)
    f = net(x)[:, 0].detach()
    product = certificates.radius(net, x).bounds[:, 3]
    torch.testing.assert_close(product, f.abs() / 2.5, rtol=1e-8, atol=0)


@pytest.mark.parametrize(("d", "hidden", "neurons"), [(2, 6, 12), (20, 10, 12), (20, 40, 12), (20, 10, 0)])
def test_no_attack_is_shorter_than_a_certificate(d, hidden, neurons):
    for seed in range(3):
        net, x = random_net(d, hidden, 3, seed), draw(8, d, seed=seed + 5)
        assert never_beaten(net, x, certificates.radius(net, x, neurons=neurons))


def never_beaten(net, x, r, steps=50):
    """DDN is nowhere shorter, PGD finds nothing in the smallest ball; for how many points DDN and we found a way."""
    labels = net(x).argmax(1)
    attack = attacks.ddn(net, x, labels, steps=steps, box=None)
    assert (attack.norm()[attack.found] >= r.low[attack.found]).all()
    assert (r.low <= r.high).all()
    eps = r.low.min().item()
    inside = attacks.pgd(net, x, labels, eps=min(eps, 1e3), steps=steps // 5, box=None)
    assert not inside.found.any()
    return (attack.found & r.high.isfinite()).sum().item()


def test_merged_outputs_are_one_decision():
    net, x = random_net(5, 8, 4), draw(40, 5, seed=5)
    merge = torch.tensor([0, 1, 0, 1])
    merged, single = certificates.radius(net, x, merge=merge), certificates.radius(net, x)
    assert (merged.high >= single.low).all()
    assert (merged.high > 1.1 * single.high).any()
    assert merged.exact.all()
    bounded = certificates.radius(net, x, merge=merge, neurons=0)
    assert (bounded.low <= merged.high).all()
    assert (bounded.high >= merged.low).all()
    apart = certificates.radius(net, x, merge=torch.tensor([5, -1, 2, 0]))
    torch.testing.assert_close(apart.high, single.high)
    alone = certificates.radius(net, x, merge=torch.zeros(4, dtype=torch.int64))
    assert alone.low.isinf().all()
    assert alone.high.isinf().all()
    assert alone.exact.all()


@pytest.mark.parametrize("neurons", [0, 12])
def test_scales_do_what_they_should(neurons):
    net, x = random_net(5, 9, 3), draw(20, 5, seed=5)
    w, c, a, b = (part.detach() for part in net.parameters())
    r = certificates.radius(net, x, neurons=neurons)
    for s in (1e-4, 1e5):
        louder = certificates.radius(two(w, c, s * a, s * b), x, neurons=neurons)
        larger = certificates.radius(two(w / s, c, a, b), s * x, neurons=neurons)
        moved = certificates.radius(two(s * w, s * c, a / s, b), x, neurons=neurons)
        for other, by in ((louder, 1), (larger, s), (moved, 1)):
            torch.testing.assert_close(other.low, by * r.low, rtol=1e-6, atol=0)
            torch.testing.assert_close(other.high, by * r.high, rtol=1e-6, atol=0)


def test_first_layers_are_folded_in():
    shape = (3, 2, 2)
    net = nets.mlp(12, (6,), 3, mean=(0.1, 0.2, 0.3), std=(0.5, 0.2, 0.4), seed=1)
    x = draw(7, *shape).sigmoid().float()
    r = certificates.radius(net, x)
    mean, std = (v.double().expand(shape).flatten() for v in (net.normalise.mean, net.normalise.std))
    w, c, a, b = (part.detach().double() for part in net.parameters())
    plain = certificates.radius(two(w / std, c - w @ (mean / std), a, b), x.flatten(1).double())
    torch.testing.assert_close(r.high, plain.high, rtol=1e-7, atol=0)
    assert r.low.dtype == DOUBLE
    nested = nn.Sequential(
        net.normalise, nn.Sequential(nn.Flatten(), net.fc1), nn.Identity(), nn.ReLU(), net.fc2
    )
    torch.testing.assert_close(certificates.radius(nested, x).high, r.high)


def test_one_output_is_its_two_logits():
    one = random_net(4, 5, 1)
    r, logits = (
        certificates.radius(net, draw(9, 4, seed=5)) for net in (one, nn.Sequential(*one, nets.TwoLogits()))
    )
    torch.testing.assert_close(r.high, logits.high)


def test_points_that_tie_have_no_radius():
    w = draw(3, 2)
    net = two(w, [0, 0, 0], draw(2, 3, seed=1), [0.5, 0.5])
    off = torch.linalg.pinv(w[:2]) @ torch.tensor([-1.0, -1], dtype=DOUBLE)
    off = torch.stack([torch.zeros(2, dtype=DOUBLE), off if w[2] @ off < 0 else -0 * off])
    for neurons in (0, 12):
        r = certificates.radius(net, off, neurons=neurons)
        assert (r.low == 0).all()
        assert (r.high == 0).all()
        assert r.exact.all()


def test_a_network_that_never_changes_its_mind_has_no_end():
    for net in (two([[1, 2.0]], [0], [[1]], [1]), two([[0.0, 0]], [3], [[1], [2]], [0, 0])):
        r = certificates.radius(net, draw(4, 2))
        assert r.low.isinf().all()
        assert r.high.isinf().all()
        assert r.exact.all()


def test_neurons_without_weights_or_a_say_cost_no_regions():
    net, x = random_net(4, 6, 2), draw(5, 4, seed=5)
    w, c, a, b = (part.detach() for part in net.parameters())
    more = two(
        torch.cat([w, torch.zeros(20, 4, dtype=DOUBLE), draw(20, 4)]),
        torch.cat([c, torch.ones(20, dtype=DOUBLE), draw(20)]),
        torch.cat([a, torch.ones(2, 20, dtype=DOUBLE), torch.zeros(2, 20, dtype=DOUBLE)], 1),
        b,
    )
    r = certificates.radius(more, x)
    assert r.exact.all()
    torch.testing.assert_close(r.high, certificates.radius(net, x).high)


def test_blocks_change_nothing(monkeypatch):
    net, x = random_net(4, 6, 3), draw(9, 4, seed=5)
    r = certificates.radius(net, x)
    monkeypatch.setattr(certificates, "BLOCK", 50)
    monkeypatch.setattr(certificates.regions, "PAIRS", 300)
    torch.testing.assert_close(certificates.radius(net, x).low, r.low)


def add_one(module, given, out):
    return out + given[0].sum()


def hooked():
    net = random_net(4, 3, 2)
    net[2].register_forward_hook(add_one)
    net[0].register_forward_hook(lambda module, given, out: out * 2)
    return net


@pytest.mark.parametrize(
    "net",
    [
        nn.Sequential(),
        nn.Sequential(nn.Linear(4, 2)),
        nn.Sequential(nn.Linear(4, 2), nn.ReLU()),
        nn.Sequential(nn.Linear(4, 3), nn.GELU(), nn.Linear(3, 2)),
        nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Dropout(), nn.Linear(3, 2)),
        nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
        nn.Sequential(nn.TransformerEncoderLayer(4, 1)),
        nets.mlp(4, (3, 3)),
        hooked(),
    ],
    ids=lambda net: " ".join(type(layer).__name__ for layer in net) or "empty",
)
def test_other_networks_are_refused(net):
    with pytest.raises(ValueError, match="two-layer ReLU network"):
        certificates.radius(net.double(), draw(3, 4))


def test_other_inputs_are_refused():
    net = random_net(4, 3, 2)
    for x in (draw(3, 5), draw(3, 2, 2), draw(3), draw(3, 4).float()):
        with pytest.raises(ValueError, match="x must"):
            certificates.radius(net, x)
    with pytest.raises(ValueError, match="merge must"):
        certificates.radius(net, draw(3, 4), merge=torch.tensor([0, 1, 2]))


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:PGD|DDN")  # where a network does not change, they say so
def test_no_attack_beats_ten_thousand_certificates():
    """200 networks of 5 to 100 neurons, 50 points each."""
    attacked = 0
    for seed in range(200):
        d, hidden, outputs = (2, 10, 50)[seed % 3], (5, 15, 40, 100)[seed % 4], (2, 3, 10)[seed // 12 % 3]
        net, x = random_net(d, hidden, outputs, seed, (1, 0.3)[seed % 2]), draw(50, d, seed=seed + 5)
        attacked += never_beaten(net, x, certificates.radius(net, x, neurons=0))
    assert attacked > 9_000


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:PGD|DDN")  # where a network does not change, they say so
def test_no_attack_beats_a_thousand_exact_radii_of_ten_neurons():
    """40 networks of 1,024 regions each, 30 points each."""
    attacked = 0
    for seed in range(40):
        d, outputs = (2, 10, 100, 784)[seed % 4], (2, 3, 5)[seed % 3]
        net, x = random_net(d, 10, outputs, seed, (1, 0.1)[seed // 4 % 2]), draw(30, d, seed=seed + 5)
        r = certificates.radius(net, x)
        assert r.exact.all()
        attacked += never_beaten(net, x, r, steps=100)
    assert attacked > 1_000
