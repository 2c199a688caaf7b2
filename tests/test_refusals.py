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
    refusals.whole(b=0, c=10**30)
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
