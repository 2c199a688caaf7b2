"""Arguments are refused by name, in one sentence, whatever their type."""

import math

import numpy as np
import pytest
import torch

from tightrope import refusals

NONSENSE = ["1", None, [1], math.nan, math.inf, -math.inf, 1j, object(), torch.ones(2), np.ones(2), {}, int]


@pytest.mark.parametrize("value", [*NONSENSE, True, 1.0, 0, 6])
def test_whole_numbers(value):
    with pytest.raises(ValueError, match=r"^steps must be a whole number from 1 to 5, not .*\.$"):
        refusals.whole(1, 5, steps=value)


@pytest.mark.parametrize("value", [*NONSENSE, True, 0, 1, 2.0])
def test_numbers(value):
    with pytest.raises(ValueError, match=r"^eps must be a finite number above 0 and below 1, not .*\.$"):
        refusals.number(above=0, below=1, eps=value)


@pytest.mark.parametrize("value", [*NONSENSE, True, -0.5, 2.5])
def test_numbers_between_closed_bounds(value):
    with pytest.raises(ValueError, match=r"^share must be a finite number at least 0 and at most 2"):
        refusals.number(least=0, most=2, share=value)


@pytest.mark.parametrize("value", [*NONSENSE, "L2", 2])
def test_choices(value):
    with pytest.raises(ValueError, match=r"^norm must be one of 'l2', 'linf', not .*\.$"):
        refusals.choice(("l2", "linf"), norm=value)


@pytest.mark.parametrize("value", [*NONSENSE, 1, 0])
def test_truths(value):
    with pytest.raises(ValueError, match=r"^keep must be True or False, not .*\.$"):
        refusals.truth(keep=value)


@pytest.mark.parametrize("value", ["12", 5, (1, 0), (1, 2.0), torch.ones(2), None, np.ones(2)])
def test_tuples_of_whole_numbers(value):
    with pytest.raises(ValueError, match=r"shape must be a "):
        refusals.wholes(1, shape=value)


def test_what_fits_passes():
    refusals.whole(1, 5, a=1, b=5, c=np.int64(3))
    refusals.whole(b=0, c=2**63 - 1)
    refusals.number(above=0, below=1, a=0.5, b=np.float32(0.25))
    refusals.number(any=-3)
    refusals.number(least=0, most=0, zero=0)
    refusals.choice(("l2", None), norm=None)
    refusals.truth(keep=False)
    refusals.wholes(1, shape=(1, 2), widths=[3], nothing=())


def test_a_value_that_cannot_be_shown_is_named_by_its_type():
    class Silent:
        def __repr__(self):
            raise RuntimeError

    with pytest.raises(ValueError, match="not a Silent"):
        refusals.number(eps=Silent())
    with pytest.raises(ValueError, match="not a str"):
        refusals.number(eps="x" * 100)


def test_what_no_machine_counts_is_refused():
    with pytest.raises(
        ValueError, match=r"^n must be a whole number from 1 to 9223372036854775807, not 1000"
    ):
        refusals.whole(1, n=10**30)


TENSORS = [
    *NONSENSE[:-5],
    torch.ones(2, 3),
    torch.ones(3),
    torch.ones(0, 3, 3),
    torch.ones(2, 3, 4),
    torch.ones(2, 3, 3, dtype=torch.int64),
    torch.ones(2, 3, 3, dtype=torch.complex64),
    torch.ones(2, 3, 3, dtype=torch.bool),
    torch.ones(2, 3, 3, device="meta"),
    torch.full((2, 3, 3), math.nan),
    torch.full((2, 3, 3), -math.inf),
    np.ones((2, 3, 3)),
]


@pytest.mark.parametrize("value", TENSORS)
def test_tensors(value):
    with pytest.raises(
        ValueError, match=r"^x must be a finite real tensor \(N, 3, 3\), (not|and this one) .*\.$"
    ):
        refusals.tensor(("N", 3, 3), finite=True, x=value)


def test_letters_and_dots_in_shapes():
    refusals.tensor(("N", "N"), a=torch.ones(4, 4))
    for shape in ((..., "H", "W"), ("N", ..., 5), (...,), (3, 4, ..., 5)):
        refusals.tensor(shape, a=torch.ones(3, 4, 5))
    refusals.tensor(("N", 2), empty=True, a=torch.ones(0, 2))
    for shape in (("N", "N"), (..., 4, "W", "W"), ("N", ..., "M", "K", "L"), (3, ...)):
        with pytest.raises(ValueError, match=r"^a must be a real tensor \("):
            refusals.tensor(shape, a=torch.ones(4, 5, 6))


@pytest.mark.parametrize("other", [torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=torch.float16)])
def test_tensors_beside_each_other(other):
    refusals.tensor(("N",), like=torch.ones(3), b=torch.ones(2))
    with pytest.raises(ValueError, match=r"^b must be a real tensor \(N,\) on cpu in float32, not a float"):
        refusals.tensor(("N",), like=torch.ones(3), b=other)


def test_labels():
    x = torch.ones(3, 5)
    refusals.labels(x, 4, y=torch.tensor([0, 3, 1]))
    for y in (torch.tensor([0, 1]), torch.tensor([0.0, 1, 2]), [0, 1, 2], torch.zeros(3, 1).long()):
        with pytest.raises(ValueError, match=r"^y must be an int64 tensor \(3,\) on cpu, not"):
            refusals.labels(x, 4, y=y)
    for y in ([0, 4, 1], [0, -1, 1]):
        with pytest.raises(ValueError, match=r"^y must hold labels from 0 to 3"):
            refusals.labels(x, 4, y=torch.tensor(y))


@pytest.mark.parametrize("value", [*NONSENSE, (1, 0), (0, 0), (0, math.inf), ("0", 1), (0, 1, 2)])
def test_intervals(value):
    refusals.interval(box=(-1, 2.5))
    with pytest.raises(ValueError, match=r"box must be (two numbers|a finite number)"):
        refusals.interval(box=value)


@pytest.mark.parametrize("value", ["nowhere", "cuda:99", None, 5, 1.5, object()])
def test_devices(value):
    refusals.device(device="cpu", other=torch.device("cpu"))
    with pytest.raises(ValueError, match=r"^device must be a device of this machine, such as 'cpu', not"):
        refusals.device(device=value)


def test_one_or_several():
    refusals.numbers(least=0, q=0.5, many=[0, 1.5])
    refusals.instances(str, names=["a"])
    refusals.function(model=len)
    refusals.instance(str, name="a")
    for call in (
        lambda: refusals.numbers(least=0, q=[0.5, -1]),
        lambda: refusals.numbers(least=0, q=[]),
        lambda: refusals.numbers(least=0, q="0"),
        lambda: refusals.instances(str, q=[]),
        lambda: refusals.instances(str, q="a"),
        lambda: refusals.function(q=1),
        lambda: refusals.instance(str, q=1),
    ):
        with pytest.raises(ValueError, match=r"q must be .*\.$"):
            call()
