"""Whether the library did the work is told by what ran."""

from contextlib import suppress

import pytest

from tightrope.book.course.without import SENTENCE, without
from tightrope.inputs import dct, subspaces


def made_by(tag: str):
    def closed(x):
        return tag, x

    return closed


def test_what_is_not_called_is_not_accused():
    with without(subspaces, dct.dct2):
        assert dct.dct_matrix(2).shape == (2, 2)
    assert subspaces.full((2,)).dim == 2


@pytest.mark.parametrize("catch", [(), (Exception,), (BaseException,)])
def test_a_call_under_any_name_is_told_and_the_function_is_put_back(catch):
    alias = {"x": subspaces.full}
    code = subspaces.full.__code__
    with pytest.raises(AssertionError) as told, without(subspaces), suppress(*catch):
        alias["x"]((2,), seed=1)
    assert str(told.value).startswith("[used-the-library] tightrope.inputs.subspaces.full did the work")
    assert SENTENCE.fullmatch(str(told.value))
    assert subspaces.full.__code__ is code
    assert subspaces.full((2,)).dim == 2


def test_a_closure_is_swapped_too():
    closed = made_by("tag")
    with pytest.raises(AssertionError, match="closed did the work"), without(closed):
        closed(1)
    assert closed(1) == ("tag", 1)


def test_another_error_goes_through_and_everything_is_put_back():
    code = dct.dct2.__code__
    with pytest.raises(KeyError), without(dct.dct2):
        raise KeyError
    assert dct.dct2.__code__ is code
