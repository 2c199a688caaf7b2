"""The path kernel against autograd's ways to the same numbers: time, memory, scaling, share of the GEMM rate."""

from __future__ import annotations

import weakref
from collections.abc import Callable

import torch
from tests.bench import Report, benchmark, take_turns
from tests.oracles.paths import jacobian
from torch import Tensor
from torch.func import grad, jacrev, vmap
from torch.utils._python_dispatch import TorchDispatchMode

from tightrope import data, path_kernel
from tightrope.paths import trajectory

SOURCE = path_kernel.rule("left", 100)  # the source's nodes
FOUR = path_kernel.rule("gauss", 4)


def digits(n: int, queries: int = 100, **options) -> tuple[path_kernel.Path, Tensor]:
    x, y = data.load("mnist", "train", n=n, seed=0)
    path = path_kernel.train(x, y, **({"steps": 10} | options))
    xq = data.load("mnist", "test", n=queries, seed=0)[0].flatten(1).to(path.x.dtype)
    return path, xq


def by_jacobians(path: path_kernel.Path, query: Tensor, s: int, rule: path_kernel.Rule) -> Tensor:
    """The source's way: one input's Jacobian at a time, of every training point and of the query at every node."""
    w, sizes = path.trajectory.states, path.trajectory.sizes
    train = sum(jacobian(w[s], sizes, x).T @ a for x, a in zip(path.x, path.weights[:, s], strict=True))
    nodes = zip(rule.nodes, rule.weights, strict=True)
    return sum(p * jacobian(torch.lerp(w[s], w[s + 1], t), sizes, query) @ train for t, p in nodes)


def by_torch_func(path: path_kernel.Path, query: Tensor, s: int, rule: path_kernel.Rule) -> Tensor:
    """torch.func at its best: one contracted gradient a training point, all at once; the query at all nodes at once."""
    w, sizes = path.trajectory.states, path.trajectory.sizes
    logits = lambda w, x: trajectory.forward(trajectory.layers(w, sizes), x[None], "relu")[-1][0]
    spoken = vmap(grad(lambda w, x, a: logits(w, x) @ a), (None, 0, 0))(w[s], path.x, path.weights[:, s])
    along = torch.stack([torch.lerp(w[s], w[s + 1], t) for t in rule.nodes])
    here = vmap(jacrev(logits), (0, None))(along, query)
    return torch.einsum("j,jkp,np->k", torch.tensor(rule.weights).to(w), here, spoken)


class Live(TorchDispatchMode):
    """The most bytes of tensors made inside the block that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if not isinstance(tensor, Tensor) or tensor._base is not None:
                continue
            storage = tensor.untyped_storage()
            if storage.data_ptr() in self.seen or not storage.nbytes():
                continue
            self._born(tensor, storage.data_ptr(), storage.nbytes())
        return out

    def _born(self, tensor: Tensor, pointer: int, size: int) -> None:
        self.seen.add(pointer)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(tensor, self._gone, pointer, size)

    def _gone(self, pointer: int, size: int) -> None:
        self.seen.discard(pointer)
        self.now -= size


def most_bytes(call: Callable[[], object]) -> int:
    with Live() as live:
        call()
    return live.most


@benchmark
def path_kernel_against_autograd() -> Report:
    """Kernel sum of a 784-100-10 network, float64, 100 training points: milliseconds a (query, step)."""
    path, xq = digits(100)
    one, steps = xq[:1], path.steps
    methods = {
        "Jacobians one by one, 100 nodes": lambda k: by_jacobians(path, one[0], k, SOURCE),
        "torch.func, 100 nodes": lambda k: by_torch_func(path, one[0], k, SOURCE),
        "torch.func, 4 nodes": lambda k: by_torch_func(path, one[0], k, FOUR),
        "ours, exact, one query": lambda k: path.predict(one),
        "ours, exact, 100 queries": lambda k: path.predict(xq),
    }
    work = {"ours, exact, one query": steps, "ours, exact, 100 queries": steps * len(xq)}
    rounds = 3
    seconds, results = take_turns(methods, rounds)
    each = {name: 1e3 * seconds[name] / work.get(name, 1) for name in methods}
    exact = [path.net(one, s + 1)[0] - path.net(one, s)[0] for s in range(rounds)]
    error = {
        name: max((r - e).abs().max().item() for r, e in zip(results[name], exact, strict=True))
        for name in methods
        if name not in work
    }
    error |= {
        name: (results[name][0] - path.net(xq)[: len(results[name][0])]).abs().max().item() for name in work
    }
    many, query = digits(1_600, 1, steps=1)
    memory = {
        "torch.func, 4 nodes": most_bytes(lambda: by_torch_func(many, query[0], 0, FOUR)),
        "ours, exact, one query": most_bytes(lambda: many.predict(query)),
    }
    report = Report(
        "Path kernel, 784-100-10, float64, 100 training points",
        ("way", "ms a (query, step)", "largest error", "MB at 1,600 training points"),
    )
    for name in methods:
        mb = f"{memory[name] / 1e6:.1f}" if name in memory else ""
        report.rows.append((name, f"{each[name]:.3f}", f"{error[name]:.0e}", mb))
    ours = each["ours, exact, 100 queries"]
    report.bounds += [
        (
            "times faster than Jacobians one by one",
            each["Jacobians one by one, 100 nodes"] / ours,
            "≥",
            5_000,
        ),
        ("times faster than torch.func with 4 nodes", each["torch.func, 4 nodes"] / ours, "≥", 300),
        (
            "times less memory than torch.func with 4 nodes",
            memory["torch.func, 4 nodes"] / memory["ours, exact, one query"],
            "≥",
            100,
        ),
        ("largest error", error["ours, exact, 100 queries"], "≤", 1e-12),
    ]
    return report


@benchmark
def path_kernel_scaling() -> Report:
    """CPU milliseconds a (query, step) and the share of the machine's GEMM rate, for 100 queries."""
    report = Report(
        "Path kernel, scaling: 100 queries, float64",
        ("training points", "steps", "width", "ms a (query, step)", "GFLOP/s", "share of GEMM"),
    )
    sizes = [(100, 20, 100), (500, 20, 100), (2_000, 20, 100), (500, 80, 100), (500, 20, 400)]
    runs = {size: digits(size[0], steps=size[1], hidden=size[2], lr=0.05) for size in sizes}
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
