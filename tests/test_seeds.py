import pytest
import torch

from tightrope import nets, seeds, spectra, synthetic


def test_one_seed_gives_every_purpose_its_own_stream():
    draws = [
        torch.rand(50, generator=seeds.generator(0, p)) for p in ("weights", "subspace", "batches", "points")
    ]
    assert len({tuple(d.tolist()) for d in draws}) == 4
    again = torch.rand(50, generator=seeds.generator(0, "weights"))
    assert torch.equal(draws[0], again)
    assert not torch.equal(again, torch.rand(50, generator=seeds.generator(1, "weights")))
    assert not torch.equal(again, torch.rand(50, generator=seeds.generator(2**40, "weights")))


def test_a_generator_is_used_as_it_is():
    given = torch.Generator().manual_seed(3)
    assert seeds.generator(given, "weights") is given


@pytest.mark.parametrize("bad", [-1, 1.5, True, "0", None])
def test_a_bad_seed_is_refused(bad):
    with pytest.raises(ValueError, match="whole number"):
        seeds.generator(bad, "weights")


def test_no_two_parts_of_an_experiment_draw_the_same_numbers():
    """The trap this module exists for: subspace, rotation and first layer of one seed spanned the same rows."""
    data, net = synthetic.t1(100, seed=0), nets.mlp(100, hidden=(50,), seed=0)
    subspace = spectra.random_subspace((100,), 3, 0)
    for rows in (data.u[:3], next(net.parameters())[:3].detach(), data.x[:3]):
        share = subspace.coordinates(rows).norm(dim=1) / rows.norm(dim=1)
        assert share.max() < 0.6  # √(3/100) ≈ 0.17; 1 when the streams coincide
