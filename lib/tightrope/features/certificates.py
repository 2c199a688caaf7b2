"""Lower and upper bounds on the ℓ2 robust radius of two-layer ReLU networks, exact where the neurons are few.

R_θ(z) is the length of the shortest perturbation that changes what is decided at z. The slides on feature averaging
have R_θ(z) ≥ q(z) / β for a β-Lipschitz margin q (Sokolić et al. 2017); the bounds here go from that one to the radius
itself:

- product Lipschitz: β of the whole space, from the weights alone;
- local Lipschitz: β(r) of the ball that has been passed so far. In it only neurons within r of their hyperplane switch;
- linear relaxation: those neurons between lines, the lower ones' slopes chosen for the point (Zhang et al. 2018);
- exact: every linear region within reach (`regions`).

    r = certificates.radius(net, x)     # .low ≤ radius ≤ .high, equal but for rounding where .exact

Everything is computed in float64, for the network's weights as they are stored: where a float32 network's own rounding
decides otherwise than these weights do, that is not counted. No box holds a point: pixels may leave [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import chain

import torch
from torch import Tensor, nn

from tightrope import refusals
from tightrope.features import regions
from tightrope.features.two_layers import TwoLayers, two_layers
from tightrope.models.perceptrons import answer

__all__ = ["BOUNDS", "Radius", "radius"]

BOUNDS = ("exact", "linear relaxation", "local Lipschitz", "product Lipschitz")

BLOCK = 2**22  # numbers in the largest temporary tensor
ROUNDING = 1e-13  # of a bias and of the length of a point and its perturbation: the error of a neuron's input
SLACK = 1e-9  # by how much a bound is shortened, and a found perturbation lengthened
STEPS, DOUBLINGS, HALVINGS, TURNS = 60, 12, 40, 12  # of the search for short perturbations


@dataclass(frozen=True)
class Radius:
    """Robust radii of N points, in raw inputs, float64 on the points' device.

    low     (N,) no shorter perturbation changes the decision: the largest of `bounds`
    high    (N,) length of one that does, verified by the network itself in float64; +inf where none was found
    exact   (N,) bool: both are the radius, to 4e-9 of it and of the point's length; +inf where nothing else is decided
    used    (N,) int64: which of `BOUNDS` low is
    bounds  (N, 4) what each of `BOUNDS` gives alone; 0 for "exact" where the regions were not looked through
    """

    low: Tensor
    high: Tensor
    exact: Tensor
    used: Tensor
    bounds: Tensor


@torch.no_grad()
def radius(net: nn.Sequential, x: Tensor, *, merge: Tensor | None = None, neurons: int = 12) -> Radius:
    """The robust radius of a two-layer ReLU network at x (N, …), raw inputs, from both sides.

    `net`: a Sequential of a Linear, a ReLU and a Linear behind Normalise and Flatten, as `nets.mlp` makes them. With
    one output its sign is the decision, else the largest output; given `merge`, int64 (C,), the group of the largest.
    0 where the output is 0, or the largest of two groups tie. `neurons`: up to how many the radius is computed
    exactly, which takes 2^neurons regions; at most 14.

    Bounds are shortened by a relative 1e-9, and by what rounding may have moved the neurons' inputs. Raises ValueError
    for a network that is no two-layer ReLU network.
    """
    read = two_layers(net, x)
    refusals.whole(0, 14, neurons=neurons)
    if merge is None:
        merge = torch.arange(len(read.b), device=x.device)
    else:
        refusals.tensor((len(read.b),), kind="int64", like=x, merge=merge)
    rows = max(1, BLOCK // read.span[1].numel())
    parts = [_radius(net, read, part, merge, neurons) for part in x.split(rows)]
    return Radius(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(Radius)))


def _radius(net: nn.Sequential, read: TwoLayers, x: Tensor, merge: Tensor, neurons: int) -> Radius:
    x = x.double()
    flat = x.flatten(1)
    length = flat.norm(dim=1)
    t = read.distances(flat)
    winner = read.outputs(t).argmax(1)
    mine = merge[winner][:, None] == merge
    high = _search(net, read, x, t, mine)
    reach = length + torch.where(high < math.inf, high, 0)
    slack = ROUNDING * (reach[:, None] + read.c.abs())
    bounds = _bounds(read, t, slack, winner, mine, high)
    exact = torch.zeros_like(high)
    if (read.a != 0).any(0).sum() <= neurons and not mine.all():
        given = [part.numpy(force=True) for part in (read.span[1], read.a, read.b, t, slack, mine, high)]
        exact, least = (torch.from_numpy(part).to(x.device) for part in regions.distances(*given))
        high = torch.minimum(high, least * (1 + SLACK))
    elif mine.all():
        exact = torch.full_like(high, math.inf)
    bounds = torch.stack([exact, *bounds], 1) * (1 - SLACK)
    low, used = torch.minimum(bounds, high[:, None]).max(1)
    same = (low == high) | (high - low <= 4 * SLACK * (high + length))
    return Radius(low, high, same, used, bounds)


def _bounds(
    read: TwoLayers, t: Tensor, slack: Tensor, winner: Tensor, mine: Tensor, high: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The linear relaxation's, local and product bounds (N,), each the least over the rivals of the largest output."""
    least = torch.full((3, len(t)), math.inf, dtype=t.dtype, device=t.device)
    outputs, own = read.outputs(t), read.a[winner]
    for j in range(len(read.b)):
        e, offset = own - read.a[j], read.b[winner] - read.b[j]
        error = (e.abs() * (slack + ROUNDING * t.abs())).sum(1) + ROUNDING * offset.abs()
        lead = (outputs.gather(1, winner[:, None])[:, 0] - outputs[:, j] - error).clamp_min(0)
        everywhere = _steepest(read, e)
        product = torch.where(lead > 0, lead / everywhere, 0)
        local = _local(read, t, e, lead, everywhere)
        relaxed = _relaxed(read, t, e, offset - error, local, torch.where(high < math.inf, high, 8 * local))
        now = torch.stack([relaxed, local, product])
        least = torch.where(mine[:, j], least, torch.minimum(least, now))
    return tuple(least)


def _steepest(read: TwoLayers, e: Tensor) -> Tensor:
    """β (N,) of Σ e_r relu(t_r), e (N, R): the least of Σ|e_r| and two products of norms, ‖e/s‖ ‖diag(s) w‖.

    s = 1, and s = the weights' lengths, which is the product of the two layers' spectral norms.
    """
    beta = e.abs().sum(1)
    v = read.span[1]
    for s in (torch.ones_like(read.size), read.size):
        of = torch.where(s > 0, s, 1)
        beta = torch.minimum(beta, (e / of).norm(dim=1) * torch.linalg.matrix_norm(v * s[:, None], 2))
    return beta


def _local(read: TwoLayers, t: Tensor, e: Tensor, lead: Tensor, everywhere: Tensor) -> Tensor:
    """The r at which ∫₀ʳ β(ϱ) dϱ reaches the lead, with β(ϱ) ≥ ‖∇‖ for all points at distance ϱ.

    There the neurons with |t_r| ≤ ϱ may be on or off: ∇ is off the middle of both, ‖Σ_fixed on e_r w_r + ½ Σ_free e_r
    w_r‖, by at most half of Σ|e_r| or of ‖e‖ ‖w‖ over the free ones. β is constant between the |t_r|.
    """
    v = read.span[1]
    at, order = t.abs().sort(1)
    on = (t > 0).to(t.dtype)
    change = ((0.5 - on) * e).gather(1, order)[..., None] * v[order]
    start = ((on * e) @ v)[:, None]
    middle = torch.cat([start, start + change.cumsum(1)], 1).norm(dim=2)
    free = e.gather(1, order)
    spread = torch.minimum(
        free.abs().cumsum(1), free.square().cumsum(1).sqrt() * torch.linalg.matrix_norm(v, 2)
    )
    beta = middle + torch.cat([torch.zeros_like(spread[:, :1]), spread / 2], 1)
    beta = torch.minimum(beta, everywhere[:, None])
    zero = torch.zeros_like(at[:, :1])
    begin = torch.cat([zero, at], 1)
    spent = torch.cat([zero, (beta[:, :-1] * begin.diff(dim=1)).cumsum(1)], 1)
    k = ((spent <= lead[:, None]).sum(1, keepdim=True) - 1).clamp_min(0)
    begin, spent, beta = (part.gather(1, k)[:, 0] for part in (begin, spent, beta))
    rest = (lead - spent).clamp_min(0)
    return begin + torch.where(beta > 0, rest / beta, torch.where(k[:, 0] == t.shape[1], math.inf, 0.0))


def _relaxed(read: TwoLayers, t: Tensor, e: Tensor, offset: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The largest r found, by bisection, for which the relaxed lead stays above 0 in the ball of radius r around x.

    In it relu(z_r) lies below the chord over [t_r − r, t_r + r], and above s z_r for any s in [0, 1]. Two steps of
    Frank and Wolfe choose the s at each r: those of neurons that are on where the relaxed lead is least.
    """
    v = read.span[1]
    low, high = low.clone(), torch.where(high < math.inf, high, low)
    s = None
    for halving in range(20):
        r = ((low + high) / 2)[:, None]
        free = t.abs() < r
        fixed = (t >= r).to(t.dtype)
        chord = torch.where(free, (t + r) / (2 * r).clamp_min(1e-300), fixed)
        s = chord if s is None else torch.where(free & (e > 0), s, chord)
        above = torch.where(free & (e < 0), e * chord * (r - t), 0).sum(1) + offset
        best = torch.full_like(low, -math.inf)
        for step in range(3):
            slope = (e * s) @ v
            size = slope.norm(dim=1, keepdim=True)
            best = torch.maximum(best, above + (e * s * t).sum(1) - (r * size)[:, 0])
            there = t - r * _unit(slope) @ v.T
            share = 2 / (halving + step + 3)
            s = torch.where(free & (e > 0), s + share * ((there > 0).to(t.dtype) - s), s)
        low, high = torch.where(best > 0, r[:, 0], low), torch.where(best > 0, high, r[:, 0])
    return low


def _search(net: nn.Sequential, read: TwoLayers, x: Tensor, t: Tensor, mine: Tensor) -> Tensor:
    """Lengths (N,) of the shortest perturbations found that change the decision, +inf where none was.

    Rays to where steps down the lead end, and against its gradients over each rival. Then the best ray turns towards
    the normal of the boundary where it meets it, as long as that is shorter. The network is asked about the result.
    """
    q, v = read.span
    best, best_d = torch.full_like(t[:, 0], math.inf), (0 * t) @ v
    for d, along, far in chain(
        [_descent(read, t, mine)], *(_rays(read, t, mine, j) for j in range(len(read.b)))
    ):
        at = _crossing(read, t, mine, along, torch.minimum(far, best))
        best_d = torch.where((at < best)[:, None], d, best_d)
        best = torch.minimum(at, best)
    turn = torch.ones_like(best)
    for _ in range(TURNS):
        far = torch.where(best < math.inf, best, 0)
        there = t + far[:, None] * (best_d @ v.T)
        d = _unit(best_d - turn[:, None] * _unit((_lead(read, there, mine)[1] * (there > 0)) @ v))
        at = _crossing(read, t, mine, d @ v.T, far)
        shorter = at < best
        best, best_d = torch.where(shorter, at, best), torch.where(shorter[:, None], d, best_d)
        turn = torch.where(shorter, turn * 1.5, turn / 3)
    tie = _lead(read, t, mine)[0] <= 0
    length = torch.where(tie | (best == math.inf), 0, best * (1 + SLACK))
    verdict = answer(net, x + (length[:, None] * (best_d @ q)).view_as(x))
    over = verdict.masked_fill(~mine, -math.inf).amax(1) <= verdict.masked_fill(mine, -math.inf).amax(1)
    return torch.where(tie | ((best < math.inf) & over), length, math.inf)


def _descent(read: TwoLayers, t: Tensor, mine: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As of `_rays`: where steps to the linearised boundary end.

    Along a mean of the gradients met so far, as those of two regions side by side may point at each other.
    """
    v = read.span[1]
    y, mean = (0 * t) @ v, None
    for _ in range(STEPS):
        there = t + y @ v.T
        lead, e = _lead(read, there, mine)
        slope = (e * (there > 0)) @ v
        mean = slope if mean is None else 0.9 * mean + 0.1 * slope
        square = mean.square().sum(1)
        length = torch.where((lead > 0) & (lead < math.inf) & (square > 0), 1.05 * lead / square, 0)
        y = y - length[:, None] * mean
    return _unit(y), _unit(y) @ v.T, y.norm(dim=1)


def _rays(read: TwoLayers, t: Tensor, mine: Tensor, j: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Directions (N, K) towards output j, what they move t along (N, R), and where they may have crossed (N,).

    Against the gradient at x; as it were with every neuron on that speaks for j; and with all of them on, as there is
    no gradient where none is.
    """
    lead, e = _lead(read, t, mine, j)
    v = read.span[1]
    for on in (t > 0, (t > 0) | (e < 0), torch.ones_like(t)):
        slope = (e * on) @ v
        d, size = -_unit(slope), slope.norm(dim=1)
        along = d @ v.T
        far = torch.where((size > 0) & (lead < math.inf), lead / size, 0).clamp_min(1e-300)
        for _ in range(DOUBLINGS):
            crossed = _lead(read, t + far[:, None] * along, mine)[0] <= 0
            far = torch.where(crossed, far, 2 * far)
        yield d, along, far


def _crossing(read: TwoLayers, t: Tensor, mine: Tensor, along: Tensor, far: Tensor) -> Tensor:
    """Where rays that move t along (N, R) cross before `far` (N,), if they have at `far`; else +inf."""
    crossed = lambda s: _lead(read, t + s[:, None] * along, mine)[0] <= 0
    there, near = crossed(far), torch.zeros_like(far)
    for _ in range(HALVINGS):
        middle = (near + far) / 2
        over = crossed(middle)
        near, far = torch.where(over, near, middle), torch.where(over, middle, far)
    return torch.where(there, far, math.inf)


def _lead(read: TwoLayers, t: Tensor, mine: Tensor, j: int | None = None) -> tuple[Tensor, Tensor]:
    """By how much the deciding group's largest output i leads over j at t (N, R), and a_i − a_j (N, R).

    j is the largest output of the other groups unless it is given; the lead over one of the same group is +inf.
    """
    outputs = read.outputs(t)
    own, i = outputs.masked_fill(~mine, -math.inf).max(1)
    rest = outputs.masked_fill(mine, -math.inf)
    other, j = rest.max(1) if j is None else (rest[:, j], torch.full_like(i, j))
    return own - other, read.a[i] - read.a[j]


def _unit(vectors: Tensor) -> Tensor:
    """Vectors (N, K) at length one; a zero stays one."""
    size = vectors.norm(dim=1, keepdim=True)
    return vectors / torch.where(size > 0, size, 1)
