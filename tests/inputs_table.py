"""Kinds of inputs, outputs, weights and states × the functions that measure: `python -m tests.inputs_table`.

A cell is "right", where the function answers as for the plain network and plain inputs, or the sentence that it stops
with. Anything else (another number, a traceback) makes the script end with 1.
"""

from __future__ import annotations

import contextlib
import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, cross_entropy

from tightrope import attacks, margins, nets, training
from tightrope.models import outputs

Model = Callable[[Tensor], object]
RECIPE = training.Recipe(lr=0.1, momentum=0.0, batch=6, epochs=2)


def plain() -> nn.Sequential:
    """Normalise, convolution, batch norm, a smooth bend (a kink would part kernels that round apart), three classes."""
    torch.manual_seed(1)
    net = nn.Sequential(
        nets.Normalise(0.5, 0.25),
        nn.Conv2d(1, 2, 3),
        nn.BatchNorm2d(2),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(72, 3),
    )
    net(torch.rand(20, 1, 8, 8))
    return net.eval()


X = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(2))
Y = torch.tensor([0, 1, 2, 0, 1, 2])


class Then(nn.Module):
    """The plain network and something behind it."""

    def __init__(self, change: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.net, self.change = plain(), change

    def forward(self, z: Tensor) -> object:
        return self.change(self.net(z))


class InPlace(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sub_(0.5).div_(0.25)


class Views(nn.Conv2d):
    def forward(self, z: Tensor) -> Tensor:
        return conv2d(z, self.weight.view(-1).view(self.weight.shape), self.bias)


class Noise(nn.Module):
    """At test time only."""

    def forward(self, z: Tensor) -> Tensor:
        return z if self.training else z + torch.randn_like(z)


def with_layer(k: int, layer: nn.Module) -> nn.Sequential:
    """The plain network with another k-th layer, of the same weights where it has any."""
    net = plain()
    layer.load_state_dict(net[k].state_dict(), strict=False)
    net[k] = layer
    return net.eval()


def quantised() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(plain(), {nn.Linear}, dtype=torch.qint8)


def in_inference(make: Callable[[], object]) -> object:
    with torch.inference_mode():
        return make()


def hidden(net: nn.Module) -> Model:
    return lambda z: net(z)


@contextlib.contextmanager
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


@dataclass
class Kind:
    """What is given: a model, inputs, a block around the call; and the network and inputs with the same answers."""

    model: Callable[[], Model] = plain
    x: Callable[[], object] = lambda: X.clone()
    block: Callable[[], AbstractContextManager] = nullcontext
    same: Callable[[], nn.Module] = plain
    at: Tensor | None = None
    y: Tensor | None = None


BLACK_AND_WHITE = X.round()
KINDS: dict[str, Kind] = {
    "plain": Kind(),
    "inputs: uint8": Kind(x=lambda: (255 * X).byte()),
    "inputs: 0 to 255": Kind(x=lambda: 255 * X),
    "inputs: N×H×W×C": Kind(x=lambda: X.permute(0, 2, 3, 1)),
    "inputs: one image": Kind(x=lambda: X[0], y=Y[:1]),
    "inputs: another size": Kind(x=lambda: torch.rand(6, 1, 9, 9)),
    "inputs: float64": Kind(x=lambda: X.double()),
    "inputs: half": Kind(x=lambda: X.half()),
    "inputs: whole numbers": Kind(x=lambda: BLACK_AND_WHITE.long()),
    "inputs: NaN": Kind(x=lambda: X.sqrt() * torch.nan),
    "inputs: an array": Kind(x=lambda: X.numpy()),
    "inputs: want a gradient": Kind(x=lambda: X.clone().requires_grad_()),
    "inputs: of inference_mode": Kind(x=lambda: in_inference(X.clone)),
    "inputs: channels last": Kind(x=lambda: X.to(memory_format=torch.channels_last)),
    "inputs: strided": Kind(x=lambda: X.transpose(2, 3).contiguous().transpose(2, 3)),
    "inputs: expanded": Kind(x=lambda: X[:1].expand_as(X), at=X[:1].repeat(6, 1, 1, 1)),
    "outputs: .logits": Kind(lambda: Then(lambda out: SimpleNamespace(logits=out))),
    "outputs: a dict": Kind(lambda: Then(lambda out: {"logits": out})),
    "outputs: a tuple": Kind(lambda: Then(lambda out: (out, None))),
    "outputs: float64": Kind(lambda: Then(Tensor.double)),
    "outputs: bfloat16": Kind(lambda: Then(Tensor.bfloat16)),
    "outputs: one logit": Kind(lambda: Then(lambda out: out[:, :1])),
    "outputs: one dimension": Kind(lambda: Then(lambda out: out[:, 0])),
    "outputs: probabilities": Kind(lambda: Then(lambda out: out.softmax(1))),
    "outputs: labels": Kind(lambda: Then(lambda out: out.argmax(1))),
    "outputs: NaN": Kind(lambda: Then(lambda out: out * torch.nan)),
    "outputs: infinite": Kind(lambda: Then(lambda out: out / 0)),
    "outputs: detached": Kind(lambda: Then(Tensor.detach)),
    "outputs: a row too few": Kind(lambda: Then(lambda out: out[1:])),
    "outputs: a text": Kind(lambda: Then(str)),
    "weights: half": Kind(
        lambda: plain().half(), x=lambda: X.half(), same=lambda: plain().half().float(), at=X.half().float()
    ),
    "weights: bfloat16": Kind(lambda: plain().bfloat16(), same=lambda: plain().bfloat16().float()),
    "weights: bfloat16, hidden": Kind(lambda: hidden(plain().bfloat16())),
    "weights: float64": Kind(lambda: plain().double()),
    "weights: int8": Kind(quantised),
    "weights: of inference_mode": Kind(lambda: in_inference(plain)),
    "weights: channels last": Kind(lambda: plain().to(memory_format=torch.channels_last)),
    "state: train mode": Kind(lambda: plain().train()),
    "state: train mode, hidden": Kind(lambda: hidden(plain().train())),
    "state: hidden": Kind(lambda: hidden(plain())),
    "state: dropout, hidden": Kind(lambda: hidden(with_layer(3, nn.Dropout()).train())),
    "state: batch statistics": Kind(lambda: with_layer(2, nn.BatchNorm2d(2, track_running_stats=False))),
    "state: random": Kind(lambda: with_layer(3, Noise())),
    "state: normalises in place": Kind(lambda: with_layer(0, InPlace())),
    "state: views its weights": Kind(lambda: with_layer(1, Views(1, 2, 3))),
    "block: no_grad": Kind(block=torch.no_grad),
    "block: inference_mode": Kind(block=torch.inference_mode),
    "block: autocast": Kind(block=lambda: torch.autocast("cpu", dtype=torch.bfloat16)),
    "block: default float64": Kind(block=double),
    "block: default device": Kind(block=lambda: torch.device("meta")),
}


def trained(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    with torch.inference_mode(False):
        mine = (
            copy.deepcopy(net)
            if isinstance(net, nn.Module) and not next(net.parameters()).is_inference()
            else net
        )
    training.fit(mine, x, y, RECIPE)
    return nn.utils.parameters_to_vector(mine.parameters()).detach()


def descended(net: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """The same training by a plain loop."""
    net.train()
    for _ in range(RECIPE.epochs):
        loss = cross_entropy(outputs.logits(net(x.clone())), y)
        for p, slope in zip(net.parameters(), torch.autograd.grad(loss, list(net.parameters())), strict=True):
            p.data -= RECIPE.lr * slope
    return nn.utils.parameters_to_vector(net.parameters()).detach()


FUNCTIONS: dict[str, Callable[[Model, Tensor, Tensor], Tensor]] = {
    "deepfool": lambda net, x, y: margins.deepfool(net, x).norm,
    "tight": lambda net, x, y: margins.deepfool(net, x, tight=3).norm,
    "pgd ℓ2": lambda net, x, y: attacks.pgd(net, x, y, eps=0.3, steps=3).images,
    "pgd ℓ∞": lambda net, x, y: attacks.pgd(net, x, y, eps=0.1, steps=3, norm="linf").images,
    "pgd, last": lambda net, x, y: attacks.pgd(net, x, y, eps=0.3, steps=3, keep="last").images,
    "fgsm": lambda net, x, y: attacks.fgsm(net, x, y, eps=0.1).images,
    "r_fgsm": lambda net, x, y: attacks.r_fgsm(net, x, y, eps=0.1).images,
    "bim": lambda net, x, y: attacks.bim(net, x, y, eps=0.1, steps=3).images,
    "ddn": lambda net, x, y: attacks.ddn(net, x, y, steps=5).images,
    "carlini_wagner": lambda net, x, y: attacks.carlini_wagner(net, x, y, steps=4, searches=2).images,
    "lbfgs": lambda net, x, y: attacks.lbfgs(net, x, y, steps=4, searches=3).images,
    "mi_fgsm": lambda net, x, y: attacks.mi_fgsm(net, x, y, eps=0.1, steps=3).images,
    "square": lambda net, x, y: attacks.square(net, x, y, eps=0.1, queries=5).images,
    "fmn": lambda net, x, y: attacks.fmn(net, x, y, steps=5).images,
    "shrinking ball": lambda net, x, y: attacks.shrinking_ball(net, x, y, eps=0.3, steps=4).images,
    "strongest": lambda net, x, y: (
        attacks.strongest(net, x, y, eps=0.3, steps=3, attacks=("ddn",), doublings=1).images
    ),
    "accuracy": lambda net, x, y: torch.tensor(training.accuracy(net, x, y), device="cpu"),
    "fit": trained,
}


def cell(kind: Kind, function: Callable[[Model, Tensor, Tensor], Tensor]) -> str:
    """ "right", the sentence, or what is wrong after a "!"."""
    model, x, y = kind.model(), kind.x(), Y if kind.y is None else kind.y
    try:
        with warnings.catch_warnings(), kind.block():
            warnings.simplefilter("ignore")
            found = function(model, x, y)
    except ValueError as error:
        said = str(error)
        return said if said.endswith(".") and "\n" not in said else f"! {said}"
    except Exception as error:
        return f"! {type(error).__name__}: {error}".splitlines()[0]
    given = X if kind.at is None else kind.at
    # A training is right where it is the training of this network, whatever its answers mean.
    expected = descended(kind.model(), given, y) if function is trained else function(kind.same(), given, y)
    close = found.shape == expected.shape and torch.allclose(
        found.to(expected), expected, rtol=1e-3, atol=1e-5
    )
    return "right" if close else f"! another result, up to {(found - expected).abs().max():.2g} away"


def table() -> dict[str, dict[str, str]]:
    return {
        name: {column: cell(kind, function) for column, function in FUNCTIONS.items()}
        for name, kind in KINDS.items()
    }


def main() -> int:
    wrong = 0
    for name, row in table().items():
        print(f"\n{name}")
        for said in dict.fromkeys(row.values()):
            wrong += said.startswith("!")
            print(f"    {', '.join(column for column in row if row[column] == said)}: {said}")
    return min(wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
