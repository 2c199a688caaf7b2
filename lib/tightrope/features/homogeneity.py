"""Homogeneous networks and the margin that gradient flow maximises: its size, its smooth form, its KKT conditions.

*Feature averaging*, the part on margin maximisation (Lyu and Li 2020, Ji and Telgarsky 2020). A network is
L-homogeneous where f(x; cθ) = cᴸ f(x; θ) for c > 0; θ are all its trained parameters, ρ = ‖θ‖. The margin of a sample
is q_n = f_y − max_{j ≠ y} f_j, or ±f for a network of one output, + for label 1. Networks are measured in eval mode,
and are as they were afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from scipy.optimize import nnls
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tightrope import refusals
from tightrope.models import outputs
from tightrope.models.loans import borrowed

__all__ = ["KKT", "Margins", "Multipliers", "Scaling", "kkt", "margins", "scaling"]

MOST = 2**28  # numbers in the gradients of the near-active samples, 2 GiB

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Margins:
    """The margins of N samples, in float64.

    q           (N,)
    norm        () ρ
    normalised  () γ̄ = min q_n / ρᴸ
    smoothed    () γ̃ = ρ⁻ᴸ log(1 / 𝓛) with 𝓛 = Σ e^(−q_n): γ̄ − ρ⁻ᴸ log N ≤ γ̃ ≤ γ̄
    log_loss    () log 𝓛
    """

    q: Tensor
    norm: Tensor
    normalised: Tensor
    smoothed: Tensor
    log_loss: Tensor


def margins(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    order: float,
    *,
    weights: Sequence[Tensor] | None = None,
    chunk: int = 1_000,
) -> Margins:
    """The margins of x (N, …) with labels y (N,), normalised for a network of that order L.

    `weights`: in place of the trained parameters, in their order, such as one state of a `log_descent.Path`. The
    network is asked in its own precision. Raises ValueError for what is no network of logits (N, K), (N, 1) or (N,).
    """
    refusals.number(above=0, order=order)
    refusals.whole(1, chunk=chunk)
    with _lent(net, x, weights, y=y) as (f, theta), torch.no_grad():
        parts = zip(x.split(chunk), y.split(chunk), strict=True)
        q = torch.cat([_margins(f(theta, part), labels) for part, labels in parts]).double()
        rho = _norm(theta)
    if not rho > 0:
        raise ValueError("The network's trained parameters are all zero, so its margin cannot be normalised.")
    if not (q.isfinite().all() and rho.isfinite()):
        raise ValueError("The network returns NaN or infinite logits on x.")
    size = rho**order
    if not (size.isfinite() and size > 0):
        raise ValueError(f"order={order:g} takes the norm of the parameters out of the floats.")
    log_loss = torch.logsumexp(-q, 0)
    return Margins(q, rho, q.min() / size, -log_loss / size, log_loss)


@dataclass(frozen=True)
class Scaling:
    """What S factors c on all trained parameters do to a network's outputs, in float64.

    exponent  (S,) log(‖f(x; cθ)‖ / ‖f(x; θ)‖) / log c over all outputs together: L where it is L-homogeneous
    residual  (S,) ‖f(x; cθ)/‖f(x; cθ)‖ − f(x; θ)/‖f(x; θ)‖‖: 0 where it is homogeneous, whatever the order
    """

    scale: Tensor
    exponent: Tensor
    residual: Tensor


def scaling(net: nn.Module, x: Tensor, scales: Sequence[float] = (0.5, 2.0, 10.0)) -> Scaling:
    """Whether `net` is homogeneous on x (N, …), and of which order: its outputs with all parameters times c.

    Raises ValueError for scales of 1, and where all outputs are zero or one is not finite.
    """
    refusals.instance((tuple, list), scales=scales)
    refusals.numbers(above=0, scales=scales)
    if 1 in scales:
        raise ValueError("scales must not hold 1, which changes nothing.")
    with _lent(net, x, exact=True) as (f, theta), torch.no_grad():
        answers = [f({k: c * w for k, w in theta.items()}, x.double()).flatten() for c in (1.0, *scales)]
    found = torch.stack(answers)
    norm = found.norm(dim=1)
    if not (norm.isfinite().all() and (norm > 0).all()):
        raise ValueError(
            "The network's outputs on x, or those at one of the scales, are all zero or not finite."
        )
    ways = found / norm[:, None]
    scale = torch.tensor([float(c) for c in scales], dtype=torch.float64, device=x.device)
    return Scaling(scale, (norm[1:] / norm[0]).log() / scale.log(), (ways[1:] - ways[0]).norm(dim=1))


@dataclass(frozen=True)
class Multipliers:
    """λ ≥ 0 and how far it is from showing that θ̃ is a KKT point.

    weights          (N,) λ_n
    stationarity     () ‖θ̃ − Σ λ_n h_n‖ / ‖θ̃‖
    complementarity  () L Σ λ_n (q_n(θ̃) − 1) / ‖θ̃‖²: the mean of q_n − 1 under λ where θ̃ is stationary
    """

    weights: Tensor
    stationarity: Tensor
    complementarity: Tensor


@dataclass(frozen=True)
class KKT:
    """How near θ̃ = θ / q_min^(1/L) is to a KKT point of min ½‖θ‖² subject to q_n(θ) ≥ 1, in float64.

    q     (N,) q_n(θ̃), the smallest 1 where the network is homogeneous
    flow  gradient flow's multipliers, in proportion to e^(−q_n(θ)), with the factor that fits best
    best  those with the least sum of both residuals' squares, zero beyond the near-active samples
    """

    q: Tensor
    flow: Multipliers
    best: Multipliers


def kkt(
    net: nn.Module,
    x: Tensor,
    y: Tensor,
    order: float,
    *,
    weights: Sequence[Tensor] | None = None,
    slack: float = 0.1,
    chunk: int = 1_000,
) -> KKT:
    """The KKT residuals of the margin problem at a network that fits x (N, …), y (N,), of order L.

    `slack`: near-active are samples with q_n(θ̃) ≤ 1 + slack; their gradients h_n = ∇q_n(θ̃) are held together, one
    float64 a sample and parameter. h_n is autograd's: where a ReLU or the runner-up changes at θ̃ the Clarke
    subdifferential holds others too, and the residual may be too large. `flow` tells something only after steps so
    short that they keep the q_n balanced to less than 1. `weights` is `margins`'.

    For a linear network without bias half the squared stationarity plus the complementarity, whatever λ, is at least
    ½‖θ̃ − w‖² / ‖θ̃‖², with w the SVM's (it is the duality gap).

    Raises ValueError where a sample is on the wrong side, for then no multiple of θ is feasible.
    """
    refusals.number(above=0, order=order)
    refusals.number(least=0, slack=slack)
    refusals.whole(1, chunk=chunk)
    with _lent(net, x, weights, exact=True, y=y) as (f, theta):
        x = x.double()
        with torch.no_grad():
            raw = torch.cat(
                [_margins(f(theta, a), b) for a, b in zip(x.split(chunk), y.split(chunk), strict=True)]
            )
        if not (raw.isfinite().all() and raw.min() > 0):
            raise ValueError("x must lie on its labels' side of the network: a margin is not above zero.")
        size = raw.min() ** (1 / order)
        if not (size.isfinite() and size > 0):
            raise ValueError(f"order={order:g} takes the smallest margin's root out of the floats.")
        tilde = {k: w / size for k, w in theta.items()}
        flow = torch.softmax(-raw, 0)
        q, pull = _pull(f, tilde, x, y, flow, chunk)
        active = _active(q, slack, order, sum(w.numel() for w in tilde.values()))
        one = lambda weights, x, y: _margins(f(weights, x[None]), y[None])[0]
        slopes = vmap(grad(one), in_dims=(None, 0, 0), chunk_size=chunk)(tilde, x[active], y[active])
        slopes = torch.cat([slopes[k].flatten(1) for k in tilde], 1)
    point = _flat(tilde.values())
    scale = (pull @ point / (pull @ pull).clamp_min(1e-300)).clamp_min(0)
    best = torch.zeros_like(q)
    best[active] = _best(slopes, q[active] - 1, point, order)

    def judged(weights: Tensor, total: Tensor) -> Multipliers:
        slackness = order * (weights @ (q - 1)) / point.square().sum()
        return Multipliers(weights, (point - total).norm() / point.norm(), slackness)

    return KKT(q, judged(scale * flow, scale * pull), judged(best, best[active] @ slopes))


def _pull(
    f: Callable[[Weights, Tensor], Tensor], theta: Weights, x: Tensor, y: Tensor, share: Tensor, chunk: int
) -> tuple[Tensor, Tensor]:
    """q (N,) and Σ share_n ∇q_n (P,)."""
    theta = {k: w.clone().requires_grad_() for k, w in theta.items()}
    found, total = [], torch.zeros_like(_flat(theta.values())).detach()
    with torch.enable_grad():
        for rows in torch.arange(len(x), device=x.device).split(chunk):
            q = _margins(f(theta, x[rows]), y[rows])
            slopes = torch.autograd.grad(share[rows] @ q, list(theta.values()), materialize_grads=True)
            total += _flat(slopes)
            found.append(q.detach())
    return torch.cat(found), total


def _active(q: Tensor, slack: float, order: float, parameters: int) -> Tensor:
    """Which of the margins are near 1; a sentence where none is, or too many."""
    active = q <= 1 + slack
    count = int(active.sum())
    if not count:
        raise ValueError(f"No margin is within slack={slack:g} of 1: this network is not of order={order:g}.")
    if count * parameters > MOST:
        raise ValueError(
            f"The gradients of {count} near-active samples by {parameters} parameters do not fit into memory: use a "
            f"smaller slack than {slack:g}."
        )
    return active


def _best(slopes: Tensor, over: Tensor, point: Tensor, order: float) -> Tensor:
    """min over λ ≥ 0 of the two residuals' squares: non-negative least squares, one row more for complementarity.

    Solved with a triangle of the samples' size instead of the (P + 1, A) matrix.
    """
    size = point.norm()
    row = order * over / size
    system = torch.cat([torch.cat([slopes, row[:, None]], 1), torch.cat([point, point.new_zeros(1)])[None]])
    triangle = torch.linalg.qr(system.T / size, mode="r").R.cpu().numpy()
    found, _ = nnls(triangle[:, :-1], triangle[:, -1], maxiter=100 * triangle.shape[1] + 500)
    return torch.from_numpy(found).to(point)


@contextmanager
def _lent(
    net: nn.Module,
    x: Tensor,
    weights: Sequence[Tensor] | None = None,
    *,
    exact: bool = False,
    **labels: Tensor,
) -> Iterator[tuple[Callable[[Weights, Tensor], Tensor], Weights]]:
    """(the outputs as a function of trained parameters and inputs, those parameters); `exact`: in float64."""
    refusals.instance(nn.Module, net=net)
    refusals.samples(net, x=x)
    refusals.labels(x, **labels)
    with borrowed(net):
        net.eval()
        trained = {k: p.detach().clone() for k, p in net.named_parameters() if p.requires_grad}
        if not trained:
            raise ValueError("The network has no parameter that is trained: they are all frozen.")
        if weights is not None:
            trained = _in_place_of(trained, weights)
        rest = {
            k: p.detach().clone()
            for k, p in [*net.named_parameters(), *net.named_buffers()]
            if k not in trained
        }
        if exact:
            trained, rest = (
                {k: t.double() if t.is_floating_point() else t for k, t in table.items()}
                for table in (trained, rest)
            )

        def f(theta: Weights, inputs: Tensor) -> Tensor:
            return outputs.logits(functional_call(net, (theta, rest), (inputs,)))

        _check(f, trained, x.double() if exact else x, **labels)
        yield f, trained


def _in_place_of(trained: Weights, weights: Sequence[Tensor]) -> Weights:
    refusals.instances(Tensor, weights=weights)
    refusals.whole(len(trained), len(trained), **{"the number of weights": len(weights)})
    for (name, own), given in zip(trained.items(), weights, strict=True):
        refusals.tensor(tuple(own.shape), finite=True, like=own, **{f"weights for {name}": given})
    return {name: w.detach().clone() for name, w in zip(trained, weights, strict=True)}


def _check(f: Callable[[Weights, Tensor], Tensor], theta: Weights, x: Tensor, **labels: Tensor) -> None:
    """One sample's answer: scores, and as many classes as there are labels."""
    with torch.no_grad():
        try:
            answer = f(theta, x[:1].clone())
        except (torch.OutOfMemoryError, ValueError):
            raise
        except Exception as error:
            raise ValueError(outputs.refused(x, error)) from error
    if tuple(answer.shape) == (1,):
        answer = answer[:, None]
    refusals.tensor((1, "K"), **{"what the network returns for one input": answer})
    refusals.labels(x, max(2, answer.shape[1]), **labels)


def _margins(answer: Tensor, y: Tensor) -> Tensor:
    """q (N,) from logits (N, K) or one score (N,), (N, 1)."""
    if answer[0].numel() == 1:
        return answer.flatten() * (2 * y - 1)
    own = answer.gather(1, y[:, None])
    rest = answer.scatter(1, y[:, None], -math.inf)
    return (own - rest.amax(1, keepdim=True))[:, 0]


def _norm(theta: Weights) -> Tensor:
    return _flat(theta.values()).double().norm()


def _flat(tensors: Iterable[Tensor]) -> Tensor:
    return torch.cat([t.reshape(-1) for t in tensors])
