"""Feature averaging: gradient descent on two labels mixes a class's features in every neuron, fine labels part them.

*Feature averaging* slides, "A theoretical model" to "Detailed feature-level supervisory label". Data are clusters
x_i = μ_j + ξ_i (`clusters.sample`). The network has L outputs of m neurons each and a fixed second layer,

    f_l(x) = 1/m Σ_r ReLU(⟨w_(l,r), x⟩ + b_(l,r)),

and is trained by cross-entropy on them. With one output a cluster this is theorem 5.5's F. With two, one a sign, it
is the slides' binary network: f = f_(+1) − f_(−1) is the difference of its logits, and the cross-entropy of two logits
is the logistic loss of their difference. So there is one network, it gives logits (N, L), and whatever in this library
takes a classifier (attacks, margins, certificates) takes it as it is.

    data = clusters.sample(1_000, k=10, dim=784)
    coarse, fine = (averaging.train(data, steps=800, rate=1e-3, fine=f) for f in (False, True))
    coarse.scores().averaging, fine.scores().decoupling     # (L m,) each, near 1
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import skip_init

from tightrope import progress, refusals, seeds
from tightrope.inputs.clusters import Clusters
from tightrope.models.training import Diverged

__all__ = [
    "Decomposition",
    "Merge",
    "Scores",
    "Trained",
    "cosines",
    "decompose",
    "explicit",
    "scores",
    "train",
]

THRESHOLD = 0.25  # of `explicit`: its docstring says why


@dataclass(frozen=True)
class Trained:
    """A trained network of H = L m neurons, those of one output together, and where its weights come from.

    w, b      (H, D), (H,) the first layer
    w0, b0    the same at the start
    sigma     (H, N) σ_(s,r,i): how much of ξ_i is in a neuron
    lam       (H, k) λ_(s,r,j): how much of μ_j
    output    (H,) int64, the output each neuron adds to
    sign      (H,) int64, ±1: the class of that output
    signs     (k,) int64, ±1: the classes of the clusters
    loss      (T + 1,) before every step and after the last

    w = w0 + lam @ means + sigma @ noise and b = b0 + sigma.sum(1), to rounding.
    """

    w: Tensor
    b: Tensor
    w0: Tensor
    b0: Tensor
    sigma: Tensor
    lam: Tensor
    output: Tensor
    sign: Tensor
    signs: Tensor
    loss: Tensor

    def net(self) -> nn.Sequential:
        """The network: x (N, D) to logits (N, L). Its second layer, without bias, asks for no gradient."""
        m = len(self.output) // (int(self.output[-1]) + 1)
        return _network(self.w, self.b, nn.functional.one_hot(self.output).T.to(self.w.dtype) / m)

    def scores(self) -> Scores:
        """How far each neuron averages its class's features or has taken one: `scores` of λ."""
        return scores(self.lam, self.signs, self.sign)


def train(
    data: Clusters,
    m: int = 5,
    *,
    steps: int,
    rate: float,
    fine: bool = False,
    scale: float = 1.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Trained:
    """Full-batch gradient descent on the mean cross-entropy, m neurons an output, from w ~ N(0, 1/D), b ~ N(0, 1/D²).

    The labels are `data.y`, two outputs; with `fine` they are `data.cluster`, an output a cluster. `scale` multiplies
    the weights and biases at the start.

    The lemma's coefficients are kept, not fitted. The gradient of a neuron's weights is Σ_i g_i x_i over the samples
    that it is active on, so after any number of steps w = w0 + Σ_i a_i x_i, which is Σ_i a_i ξ_i + Σ_j μ_j times the
    sum of a_i over cluster j. The a_i are all that moves: a step costs 2 N D multiplications a neuron, or N² by way of
    the inner products of all samples, which is taken where N < 2 D. Where N + k > D the coefficients are no function
    of the weights, and these are the ones that descent gave.

    Raises ValueError for arguments that describe no training and `training.Diverged` when it leaves the numbers.
    """
    _check(data)
    refusals.whole(1, m=m)
    refusals.whole(0, steps=steps)
    refusals.number(above=0, rate=rate)
    refusals.truth(fine=fine)
    refusals.number(least=0, scale=scale)
    refusals.choice((torch.float32, torch.float64), dtype=dtype)
    k, dim = data.means.shape
    outputs, labels = (k, data.cluster) if fine else (2, data.y)
    x = nn.functional.pad(
        data.x.detach().to(dtype), (0, 1), value=1.0
    )  # a bias is the weight of a constant 1
    start = _start(outputs * m, dim, scale, seed).to(x)
    a, loss = _descend(start, x, labels, outputs, steps, rate)
    end = start + a @ x
    if not (end.isfinite().all() and loss.isfinite().all()):
        raise Diverged(f"Training left the finite numbers: use a smaller rate than {rate:g}.")
    output = torch.arange(outputs, device=x.device).repeat_interleave(m)
    sign = data.signs[output] if fine else 2 * output - 1
    lam = a.new_zeros(len(a), k).index_add_(1, data.cluster, a)
    (w, b), (w0, b0) = ((rows[:, :-1], rows[:, -1]) for rows in (end, start))
    return Trained(w, b, w0, b0, a, lam, output, sign, data.signs, loss)


def _descend(
    start: Tensor, x: Tensor, labels: Tensor, outputs: int, steps: int, rate: float
) -> tuple[Tensor, Tensor]:
    """The coefficients a (H, N) of gradient descent from `start` (H, D), which ends at start + a x, and its losses."""
    n, dim = x.shape
    first = start @ x.T
    a = torch.zeros_like(first)
    moved: Callable[[], Tensor] = lambda: a @ x @ x.T
    if n < 2 * dim:
        gram = x @ x.T
        moved = lambda: a @ gram
    one_hot = nn.functional.one_hot(labels, outputs).T.to(x.dtype)
    m = len(start) // outputs
    losses = []
    for _ in progress.track(range(steps), "descent"):
        z = moved().add_(first)
        log_p = _log_softmax(z, outputs)
        losses.append((log_p * one_hot).sum())
        slope = log_p.exp_().sub_(one_hot).mul_(rate / (n * m))
        a.view(outputs, m, n).sub_((z > 0).view(outputs, m, n) * slope[:, None])
    losses.append((_log_softmax(moved().add_(first), outputs) * one_hot).sum())
    return a, torch.stack(losses) / -n


def _log_softmax(z: Tensor, outputs: int) -> Tensor:
    """Pre-activations (H, N) to the logarithms of the probabilities (L, N)."""
    return z.relu().view(outputs, -1, z.shape[1]).mean(1).log_softmax(0)


def _start(neurons: int, dim: int, scale: float, seed: int) -> Tensor:
    """Weights (H, D) and, in the last column, biases at the start; the same numbers in either precision."""
    generator = seeds.generator(seed, "weights")
    start = torch.randn(neurons, dim + 1, generator=generator, dtype=torch.float64)
    start *= scale / dim**0.5
    start[:, -1] /= dim**0.5
    return start


@dataclass(frozen=True)
class Decomposition:
    """w − w0 = lam @ means + sigma @ noise + a rest: lam (H, k), sigma (H, N), residual (H,) the length of the rest."""

    lam: Tensor
    sigma: Tensor
    residual: Tensor


def decompose(w: Tensor, w0: Tensor, means: Tensor, noise: Tensor) -> Decomposition:
    """The lemma's coefficients of any weights w (H, D), by least squares on means (k, D) and noise (N, D), in float64.

    For weights that `train` did not follow. Raises ValueError where means and noise are linearly dependent, as always
    where k + N > D: then the weights have many decompositions.
    """
    refusals.tensor(("H", "D"), finite=True, w=w)
    refusals.tensor(tuple(w.shape), finite=True, w0=w0)
    refusals.tensor(("k", w.shape[1]), finite=True, means=means)
    refusals.tensor(("N", w.shape[1]), finite=True, noise=noise)
    moved, means, noise = w.detach().double() - w0.detach().double(), means.double(), noise.double()
    lengths = torch.cat([means, noise]).norm(dim=1)
    basis = (torch.cat([means, noise]) / lengths.clamp_min(torch.finfo(torch.float64).tiny)[:, None]).T
    if basis.shape[1] > basis.shape[0] or torch.linalg.svdvals(basis)[-1] < 1e-10:
        raise ValueError(
            "The rows of means and noise are linearly dependent, so the weights have many decompositions: take the "
            "coefficients that `train` keeps."
        )
    q, r = torch.linalg.qr(basis)
    inside = moved @ q
    coefficients = torch.linalg.solve_triangular(r, inside.T, upper=True).T / lengths
    lam, sigma = coefficients.split([len(means), len(noise)], 1)
    return Decomposition(lam, sigma, (moved - inside @ q.T).norm(dim=1))


@dataclass(frozen=True)
class Scores:
    """What H neurons have made of the k_s features of their own class, each (H,), float64.

    averaging   1 where the positive coefficients of the class's features are equal, 0 where there is only one
    decoupling  1 where there is only one, 0 where they are equal
    other       the largest coefficient, in size, of a feature of the other class, over the largest of the own
    learnt      False for neurons whose own coefficients are small beside the others': all three are 0 there
    """

    averaging: Tensor
    decoupling: Tensor
    other: Tensor
    learnt: Tensor


def scores(lam: Tensor, signs: Tensor, sign: Tensor, *, floor: float = 0.01) -> Scores:
    """How far neurons with coefficients λ (H, k) average their class's features, and how far each has taken one.

    `signs` (k,): ±1, the clusters' classes; `sign` (H,): the neurons'. Of the positive coefficients of the own class,
    `averaging` is the participation ratio (Σλ)² / Σλ² and `decoupling` the share max λ / Σλ, both rescaled from what
    one feature and all k_s alike give to [0, 1]. They do not add up to 1: q of k_s features, equally, score
    (q − 1) / (k_s − 1) and (k_s / q − 1) / (k_s − 1).

    A neuron has learnt where its largest own coefficient exceeds `floor` times the largest of all neurons. Raises
    ValueError where a class has a single cluster: it leaves nothing to average.
    """
    refusals.tensor(("H", "k"), finite=True, lam=lam)
    check_signs(lam.shape[1], lam, signs=signs)
    check_signs(lam.shape[0], lam, sign=sign)
    refusals.number(least=0, below=1, floor=floor)
    own = sign[:, None] == signs
    features = own.sum(1)
    if (features < 2).any():
        raise ValueError(
            "signs must give every neuron's class two clusters or more: one leaves nothing to average."
        )
    lam = lam.detach().double()
    positive = torch.where(own, lam, 0).clamp_min(0)
    top = positive.amax(1)
    learnt = top > floor * top.amax()
    part = positive / torch.where(learnt, top, 1)[:, None]
    total = torch.where(learnt, part.sum(1), 1)
    squares = torch.where(learnt, part.square().sum(1), 1)
    averaging = (total.square() / squares - 1) / (features - 1)
    decoupling = (features / total - 1) / (features - 1)
    other = torch.where(own, 0, lam).abs().amax(1) / torch.where(learnt, top, 1)
    kept = (torch.where(learnt, value, 0) for value in (averaging, decoupling, other))
    return Scores(*kept, learnt)


class Merge(nn.Module):
    """Logits (N, C) of fine classes as logits (N, G) of the groups they belong to, `groups` (C,) int64 from 0 to G − 1.

    `how` "largest": a group has its largest class's logit. "probability": the logarithm of its classes' probabilities'
    sum, which may decide otherwise.
    """

    def __init__(self, groups: Tensor, how: str = "largest") -> None:
        super().__init__()
        refusals.tensor(("C",), kind="int64", groups=groups)
        refusals.choice(("largest", "probability"), how=how)
        found = groups.unique()
        if not found.equal(torch.arange(len(found), device=found.device)):
            raise ValueError("groups must hold every number from 0 to the largest group.")
        self.how = how
        self.register_buffer("others", groups != found[:, None])  # (G, C)

    def forward(self, logits: Tensor) -> Tensor:
        refusals.tensor(("N", self.others.shape[1]), empty=True, logits=logits)
        each = logits if self.how == "largest" else logits.log_softmax(1)
        own = each[:, None].masked_fill(self.others, -torch.inf)
        return own.amax(2) if self.how == "largest" else own.logsumexp(2)


def cosines(w: Tensor, means: Tensor, output: Tensor) -> Tensor:
    """Figure 1: element (l, j) is the mean cosine between the weights of output l's neurons and μ_j, (L, k).

    w (H, D), means (k, D), `output` (H,) from 0 to L − 1, none left out. Weights of length zero count as 0.
    """
    refusals.tensor(("H", "D"), finite=True, w=w)
    refusals.tensor(("k", w.shape[1]), finite=True, like=w, means=means)
    refusals.labels(w, len(w), output=output)
    count = output.bincount()
    if not count.all():
        raise ValueError("output must give every output from 0 to the largest a neuron.")
    unit = lambda rows: nn.functional.normalize(rows.detach(), dim=1, eps=torch.finfo(w.dtype).tiny)
    cosine = unit(w) @ unit(means).T
    return cosine.new_zeros(len(count), len(means)).index_add_(0, output, cosine) / count[:, None]


def explicit(means: Tensor, signs: Tensor) -> nn.Sequential:
    """The robust network that exists: one neuron a cluster, and a bias that filters everything else out.

    x (N, D) to logits (N, 2): f_s(x) = Σ_(j of sign s) ReLU(c_j − τ), where c_j = ⟨w_j, x⟩ are the coordinates of x in
    means (k, D), w_j = μ_j / ‖μ_j‖² where they are orthogonal.

    Every mean is √½ ρ from the decision where all ‖μ_j‖ = ρ, so the radius is √(D/2) for the slides' clusters; with
    other lengths, the shortest of them for ρ, it is that or more. To leave μ_i, an attacker lowers c_i = 1 by u and
    raises those of q clusters of the other class to t, which costs ρ √(u² + q t²). Where q (t − τ) = 1 − u − τ the
    outputs are equal, for ρ (1 + (q − 1) τ) / √(q + 1) at the least: √½ ρ for q = 1, whatever τ is, and no less for
    any other q where τ ≥ √1.5 − 1 = 0.2247. (Without a bias, τ = 0, it is ρ / √(q + 1): the averaging network's
    √(D/k).) Switching the neuron itself off costs (1 − τ) ρ, no less where τ ≤ 1 − √½ = 0.2929. Between the two lies
    τ = ¼. No classifier has a larger radius at both of two means of opposite classes: half of
    their distance is √½ ρ.

    At a mean all other neurons are off and give no gradient, so attacks that follow one fail or overrate this network:
    take the radius, or a certificate.

    Noise moves c_j by N(0, σ²/ρ²), which τ keeps out where σ is small beside ρ/4. For means at other angles c_j come
    from the pseudo-inverse, and ρ is the least singular value of `means`. Raises ValueError for dependent means.
    """
    refusals.tensor(("k", "D"), finite=True, means=means)
    check_signs(len(means), means, signs=signs)
    m = means.detach().double()
    scale = m.norm(dim=1, keepdim=True).clamp_min(torch.finfo(m.dtype).tiny)
    if len(m) > m.shape[1] or torch.linalg.svdvals(m / scale)[-1] < 1e-6:
        raise ValueError(
            "The means must be linearly independent: then every cluster has a coordinate of its own."
        )
    w = (torch.linalg.pinv(m / scale).T / scale).to(means.dtype)
    second = torch.stack([signs == -1, signs == 1]).to(w.dtype)
    return _network(w, torch.full_like(w[:, 0], -THRESHOLD), second)


def _network(w: Tensor, b: Tensor, second: Tensor) -> nn.Sequential:
    """x (N, D) to second @ ReLU(w x + b), the second layer frozen."""
    make = lambda rows, columns, bias: skip_init(
        nn.Linear, columns, rows, bias=bias, device=w.device, dtype=w.dtype
    )
    layers = OrderedDict(fc1=make(*w.shape, True), relu1=nn.ReLU(), fc2=make(*second.shape, False))
    with torch.no_grad():
        layers["fc1"].weight.copy_(w)
        layers["fc1"].bias.copy_(b)
        layers["fc2"].weight.copy_(second)
    layers["fc2"].requires_grad_(False)
    return nn.Sequential(layers)


def _check(data: Clusters) -> None:
    refusals.instance(Clusters, data=data)
    refusals.tensor(("N", "D"), finite=True, **{"data.x": data.x})
    refusals.tensor(("k", data.x.shape[1]), finite=True, like=data.x, **{"data.means": data.means})
    refusals.labels(data.x, 2, **{"data.y": data.y})
    refusals.labels(data.x, len(data.means), **{"data.cluster": data.cluster})
    check_signs(len(data.means), data.x, **{"data.signs": data.signs})


def check_signs(count: int, like: Tensor, **named: Tensor) -> None:
    """One of -1 and +1 for each of `count` clusters or neurons, where `like` is."""
    for name, value in named.items():
        refusals.tensor((count,), kind="int64", like=like, **{name: value})
        if not (value.abs() == 1).all():
            raise ValueError(f"{name} must hold -1 and +1, a class's sign each.")
