"""Chapter 6: the path kernel against autograd's ways to the same numbers: time, memory, share of the GEMM rate."""

from __future__ import annotations

import torch
from tests.bench.harness import Report, most_bytes, take_turns
from tests.oracles import paths
from torch import Tensor
from torch.func import grad, jacrev, vmap

from tightrope import data, path_kernel
from tightrope.paths import trajectory

SOURCE = path_kernel.rule("left", 100)  # the source's nodes
FOUR = path_kernel.rule("gauss", 4)


def digits(n: int, queries: int, **options) -> tuple[path_kernel.Path, Tensor]:
    x, y = data.load("mnist", "train", n=n, seed=0)
    path = path_kernel.train(x, y, **options)
    xq = data.load("mnist", "test", n=queries, seed=0)[0].flatten(1).to(path.x.dtype)
    return path, xq


def by_jacobians(path: path_kernel.Path, xq: Tensor) -> Tensor:
    """The source's way: one input's Jacobian at a time, of every training point and of every query at every node."""
    w, sizes = path.trajectory.states, path.trajectory.sizes
    total = xq.new_zeros(len(xq), *path.weights[:, 0].shape)
    for s in range(path.steps):
        every = zip(path.x, path.weights[:, s], strict=True)
        spoken = torch.stack([paths.jacobian(w[s], sizes, x).T @ a for x, a in every])
        along = [
            (torch.lerp(w[s], w[s + 1], t), p) for t, p in zip(SOURCE.nodes, SOURCE.weights, strict=True)
        ]
        for q, query in enumerate(xq):
            total[q] += spoken @ sum(p * paths.jacobian(v, sizes, query) for v, p in along).T
    return total


def by_torch_func(path: path_kernel.Path, xq: Tensor) -> Tensor:
    """torch.func at its best: one contracted gradient a training point, all at once; a query at four nodes at once."""
    w, sizes = path.trajectory.states, path.trajectory.sizes
    weights = torch.tensor(FOUR.weights).to(w)
    logits = lambda w, x: trajectory.forward(trajectory.layers(w, sizes), x[None], "relu")[-1][0]
    contracted = vmap(grad(lambda w, x, a: logits(w, x) @ a), (None, 0, 0))
    jacobians = vmap(jacrev(logits), (0, None))
    total = xq.new_zeros(len(xq), *path.weights[:, 0].shape)
    for s in range(path.steps):
        spoken = contracted(w[s], path.x, path.weights[:, s])
        along = torch.stack([torch.lerp(w[s], w[s + 1], t) for t in FOUR.nodes])
        for q, query in enumerate(xq):
            total[q] += spoken @ torch.einsum("j,jkp->pk", weights, jacobians(along, query))
    return total


def contributions() -> Report:
    """What each of 100 training points adds to each logit of 20 queries in 3 steps of a 784-100-10 network, float64.

    All ways take a training point's and a query's Jacobians once a step, for all pairs.
    """
    path, xq = digits(100, 20, steps=3)
    many, few = digits(1_600, 20, steps=1)
    source, func, ours = "Jacobians one by one, 100 nodes", "torch.func, 4 nodes", "ours, exact"
    ways = {source: by_jacobians, func: by_torch_func, ours: path_kernel.Path.contributions}
    seconds, results = take_turns({name: lambda k, way=way: way(path, xq) for name, way in ways.items()}, 2)
    exact = path.net(xq) - path.net(xq, 0)
    error = {name: (out.sum(1) - exact).abs().max().item() for name, (out, *_) in results.items()}
    memory = {name: most_bytes(lambda way=ways[name]: way(many, few)) for name in (func, ours)}
    report = Report(
        "Path kernel, 784-100-10, float64: 20 queries, 100 training points, 3 steps",
        ("way", "CPU ms a (query, step)", "largest error", "MB at 1,600 training points"),
    )
    for name in ways:
        each = 1e3 * seconds[name] / len(xq) / path.steps
        mb = f"{memory[name] / 1e6:.1f}" if name in memory else ""
        report.rows.append((name, f"{each:.3f}", f"{error[name]:.0e}", mb))
    report.bounds += [
        ("times faster than Jacobians one by one", seconds[source] / seconds[ours], "≥", 5_000),
        ("times faster than torch.func with 4 nodes", seconds[func] / seconds[ours], "≥", 300),
        ("times less memory than torch.func with 4 nodes", memory[func] / memory[ours], "≥", 100),
        ("largest error", error[ours], "≤", 1e-12),
    ]
    return report


def moving_gram() -> Report:
    """The trace kernel of two moving points: matrix products against every pair and hidden unit by itself."""
    report = Report(
        "Path kernel, both points moving: 300 × 300 points, 784-100-10, 10 steps, float64",
        ("step size", "pairs and units one by one, CPU ms a step", "ours", "relative difference"),
    )
    for lr, bound in ((0.2, 8), (1.0, 3)):
        path, _ = digits(300, 1, steps=10, lr=lr)
        seconds, results = take_turns(
            {
                "oracle": lambda k, p=path: paths.moving_gram(p, p.x, p.x),
                "ours": lambda k, p=path: p.gram(p.x, where=("moving", "moving")),
            },
            2,
        )
        truth = results["oracle"][0]
        off = ((results["ours"][0] - truth).abs().max() / truth.abs().max()).item()
        each = [f"{1e3 * seconds[name] / path.steps:.1f}" for name in ("oracle", "ours")]
        report.rows.append((f"{lr:g}", *each, f"{off:.0e}"))
        report.bounds += [
            (f"times faster at step size {lr:g}", seconds["oracle"] / seconds["ours"], "≥", bound),
            (f"relative difference at step size {lr:g}", off, "≤", 1e-13),
        ]
    return report


def scaling() -> Report:
    """CPU milliseconds a (query, step) and the share of the machine's GEMM rate, for 100 queries."""
    report = Report(
        "Path kernel, scaling: 100 queries, float64",
        ("training points", "steps", "width", "ms a (query, step)", "GFLOP/s", "share of GEMM"),
    )
    sizes = [(100, 20, 100), (500, 20, 100), (2_000, 20, 100), (500, 80, 100), (500, 20, 400)]
    runs = {size: digits(size[0], 100, steps=size[1], hidden=size[2], lr=0.05) for size in sizes}
    a = torch.randn(600, 784, dtype=torch.float64)
    b = torch.randn(784, 400, dtype=torch.float64)
    methods = {size: (lambda k, p=p, x=x: p.predict(x)) for size, (p, x) in runs.items()}
    seconds, _ = take_turns({"gemm": lambda k: [a @ b for _ in range(20)], **methods}, 4)
    peak = 20 * 2 * a.numel() * b.shape[1] / seconds["gemm"]
    shares = []
    for n, steps, width in sizes:
        # Products: pre-activations of queries and training points, two between queries and training points.
        flop = 2 * width * ((100 + n) * 784 * steps + 2 * 100 * n * steps) + 2 * 100 * n * 784
        rate = flop / seconds[n, steps, width]
        shares.append(rate / peak)
        each = 1e3 * seconds[n, steps, width] / (100 * steps)
        report.rows.append(
            (f"{n:,}", str(steps), str(width), f"{each:.4f}", f"{rate / 1e9:.1f}", f"{shares[-1]:.2f}")
        )
    report.bounds.append(("best share of the GEMM rate", max(shares), "≥", 0.6))
    return report
