"""Networks: the published architectures, drawn from a seed, in raw pixels; and frozen while measured."""

import math
from contextlib import suppress

import pytest
import torch
from torch import nn

from tightrope import nets, seeds
from tightrope.models import measured


def test_lenet_is_the_published_one():
    net = nets.lenet()
    shapes = [tuple(p.shape) for p in net.parameters()]
    assert shapes == [
        (6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,),
    ]  # fmt: skip
    names = ["conv1", "conv2", "fc1", "fc2", "fc3"]
    assert [n for n, _ in net.named_parameters()] == [f"{n}.{k}" for n in names for k in ("weight", "bias")]
    assert {n for n, _ in net.named_buffers()} == {"normalise.mean", "normalise.std"}
    assert net(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert nets.lenet(shape=(3, 32, 32), classes=2, mean=(0.5, 0.4, 0.3), std=1)(
        torch.rand(2, 3, 32, 32)
    ).shape == (2, 2)


def test_table_1_mlp_is_the_published_one():
    linear = [m for m in nets.mlp(100).modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(100, 500), *[(500, 500)] * 9, (500, 2)]


def test_lenet_computes_what_its_description_says():
    net, x = nets.lenet(seed=3), torch.rand(2, 1, 28, 28)
    w = dict(net.named_parameters())
    f = nn.functional
    h = (x - 0.1307) / 0.3081
    h = f.max_pool2d(f.conv2d(h, w["conv1.weight"], w["conv1.bias"], padding=2).relu(), 2)
    h = f.max_pool2d(f.conv2d(h, w["conv2.weight"], w["conv2.bias"]).relu(), 2).flatten(1)
    h = f.linear(h, w["fc1.weight"], w["fc1.bias"]).relu()
    h = f.linear(h, w["fc2.weight"], w["fc2.bias"]).relu()
    torch.testing.assert_close(net(x), f.linear(h, w["fc3.weight"], w["fc3.bias"]))


@pytest.mark.parametrize("channels", [1, 4, 7])
def test_c_ch_is_table_3_s(channels):
    net = nets.c_ch(channels)
    sides = []
    for layer in (m for m in net if isinstance(m, nn.Conv2d | nn.MaxPool2d)):
        layer.register_forward_hook(lambda module, given, out: sides.append(tuple(out.shape[1:])))
    assert net(torch.rand(3, 1, 28, 28)).shape == (3, 10)
    assert sides == [(channels, side, side) for side in (24, 20, 16, 12, 6)]
    convolutions = 26 * channels + 3 * (25 * channels + 1) * channels
    hidden = (36 * channels + 1) * 256 + 257 * 10
    assert sum(p.numel() for p in net.parameters()) == convolutions + hidden
    names = ["conv1", "conv2", "conv3", "conv4", "fc1", "fc2"]
    assert [n for n, _ in net.named_parameters()] == [f"{n}.{k}" for n in names for k in ("weight", "bias")]


def test_c_ch_computes_what_its_description_says():
    net, x = nets.c_ch(3, seed=3), torch.rand(2, 1, 28, 28)
    w, f = dict(net.named_parameters()), nn.functional
    h = (x - 0.1307) / 0.3081
    for k in range(1, 5):
        h = f.conv2d(h, w[f"conv{k}.weight"], w[f"conv{k}.bias"]).relu()
    h = f.linear(f.max_pool2d(h, 2).flatten(1), w["fc1.weight"], w["fc1.bias"]).relu()
    torch.testing.assert_close(net(x), f.linear(h, w["fc2.weight"], w["fc2.bias"]))
    same, other = nets.c_ch(3, seed=3), nets.c_ch(3, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), same.parameters(), strict=True))
    assert not torch.equal(net.fc2.weight, other.fc2.weight)


@pytest.mark.parametrize("init", ["he", "default"])
@pytest.mark.parametrize("build", [lambda **k: nets.mlp(30, (20, 10), **k), nets.lenet])
def test_the_seed_decides_and_the_global_generator_is_left_alone(build, init):
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = build(seed=7, init=init)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    same, other = build(seed=7, init=init), build(seed=8, init=init)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), same.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(other.parameters()))
    generator = seeds.generator(7, "weights")
    first, second = build(seed=generator, init=init), build(seed=generator, init=init)
    assert torch.equal(next(one.parameters()), next(first.parameters()))
    assert not torch.equal(next(first.parameters()), next(second.parameters()))


def test_he_initialisation_keeps_the_scale_of_a_deep_network():
    net = nets.mlp(100, init="he", seed=0)
    for m in net.modules():
        if isinstance(m, nn.Linear) and m.out_features > 2:
            assert m.weight.std().item() == pytest.approx(math.sqrt(2 / m.in_features), rel=0.03)
            assert not m.bias.any()
    conv = nets.lenet(shape=(64, 28, 28), init="he").conv1
    assert conv.weight.std().item() == pytest.approx(math.sqrt(2 / (64 * 25)), rel=0.03)


def test_default_initialisation_has_the_law_of_torchs_own():
    for name in ("conv2", "fc1"):
        ours = getattr(nets.lenet(init="default"), name)
        theirs = nn.Conv2d(6, 16, 5) if name == "conv2" else nn.Linear(400, 120)
        for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
            bound = ours.weight[0].numel() ** -0.5
            assert 0.5 * bound < a.abs().max() <= bound  # sixteen biases: below half once in 65,000 seeds
            assert b.abs().max() <= bound  # torch's formula is the one we take it for
        assert ours.weight.std().item() == pytest.approx(theirs.weight.std().item(), rel=0.06)


def test_normalisation_takes_numbers_channels_and_images():
    x = torch.rand(4, 3, 5, 5)
    torch.testing.assert_close(nets.Normalise(0.5, 2.0)(x), (x - 0.5) / 2)
    per_channel = nets.Normalise((0.1, 0.2, 0.3), (1, 2, 3))(x)
    torch.testing.assert_close(per_channel[:, 1], (x[:, 1] - 0.2) / 2)
    image = torch.rand(3, 5, 5)
    torch.testing.assert_close(nets.Normalise(image, 0.5)(x), (x - image) / 0.5)
    assert nets.Normalise(0.5, 2.0).double()(x.double()).dtype == torch.float64
    net = nets.mlp(75, (8,), mean=(0.1, 0.2, 0.3), std=(1, 2, 3))
    plain = nets.mlp(75, (8,))
    torch.testing.assert_close(net(x), plain(per_channel))


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: nets.lenet()(torch.rand(2, 28, 28)),
            r"\(N, 1, 28, 28\), not a float32 tensor \(2, 28, 28\)",
        ),
        (lambda: nets.lenet()(torch.rand(2, 3, 28, 28)), r"\(N, 1, 28, 28\)"),
        (lambda: nets.lenet()(torch.zeros(2, 1, 28, 28, dtype=torch.uint8)), "float images"),
        (
            lambda: nets.mlp(100, (5,))(torch.rand(2, 1, 28, 28)),
            r"\(N, 100\), not a float32 tensor \(2, 784\)",
        ),
        (lambda: nets.mlp(100, (5,))(torch.rand(100)), r"\(N, 100\), not a float32 tensor \(100,\)"),
        (lambda: nets.mlp(100, (5,), init="xavier"), "'he', 'default'"),
        (lambda: nets.mlp(100, (0,)), "hidden .* at least 1"),
        (lambda: nets.lenet(shape=(1, 8, 8)), "at least 12"),
        (lambda: nets.c_ch(0), "channels must be a whole number of at least 1"),
        (lambda: nets.c_ch(2)(torch.rand(2, 1, 32, 32)), r"\(N, 1, 28, 28\)"),
        (lambda: nets.lenet(std=0.0), "std must be positive"),
        (lambda: nets.Normalise(float("nan"), 1), "mean must be a finite"),
        (lambda: nets.initialise(nn.BatchNorm1d(3)), "not BatchNorm1d"),
        # Which would make five samples of one, and of two samples a batch that is not theirs.
        (lambda: nets.mlp(5, (4,), mean=[0.1] * 5)(torch.rand(1, 5)), r"mean of shape \(5, 1, 1\) does not"),
        (lambda: nets.lenet(std=(1, 2, 3))(torch.rand(2, 1, 28, 28)), r"std of shape \(3, 1, 1\) does not"),
        (lambda: nets.Normalise(torch.zeros(1, 5), 1)(torch.rand(1, 5)), r"mean of shape \(1, 5\) does not"),
    ],
)
def test_what_does_not_fit_is_said_in_a_sentence(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_a_network_is_frozen_while_measured_and_given_back_as_it_was():
    net = nets.lenet(seed=1).train()
    net.fc1.weight.requires_grad_(False)
    before = {n: (p.data_ptr(), p.stride(), p.requires_grad, p.clone()) for n, p in net.named_parameters()}
    x = torch.rand(5, 1, 28, 28)
    expected = net(x)
    with suppress(KeyError), measured.measured(net, x) as (inside, at):
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        torch.testing.assert_close(inside(at), expected)
        raise KeyError
    assert all(m.training for m in net.modules())
    for name, p in net.named_parameters():
        pointer, stride, wanted, value = before[name]
        assert (p.data_ptr(), p.stride(), p.requires_grad) == (pointer, stride, wanted)
        assert torch.equal(p, value)
    with measured.measured(net.double(), x.double()):  # only float32 has a faster order of the weights
        assert net.conv2.weight.stride() == before["conv2.weight"][1]


def test_four_layers_as_inferred_and_one_score_as_two_logits():
    net = nets.four_layer(3).eval()
    sizes = {name: tuple(p.shape) for name, p in net.named_parameters()}
    assert sizes["conv1.weight"] == (6, 3, 5, 5)
    assert sizes["conv2.weight"] == (16, 6, 5, 5)
    assert sizes["fc1.weight"][0] == 120
    assert sizes["fc2.weight"] == (84, 120)
    assert sizes["fc3.weight"] == (1, 84)
    x = torch.rand(4, 3, 32, 32)
    logits, y = net(x), torch.tensor([0, 1, 1, 0])
    torch.testing.assert_close(logits.sum(1), torch.zeros(4))
    score = logits.diff(dim=1)[:, 0]
    logistic = torch.nn.functional.softplus(-(2 * y - 1) * score).mean()
    torch.testing.assert_close(torch.nn.functional.cross_entropy(logits, y), logistic)
    plain = dict(nets.four_layer(3).named_parameters())
    assert all(torch.equal(p, plain[name]) for name, p in net.named_parameters())


def test_four_layer_options_change_one_thing_each():
    x = 5 + torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    look = {"shape": (1, 28, 28), "mean": 0.0, "std": 1.0}
    names = lambda **options: [name for name, _ in nets.four_layer(**look, **options).named_children()]
    assert [n for n in names(batch_norm=True) if n not in names()] == [
        f"norm_{n}" for n in ("conv1", "conv2", "fc1", "fc2")
    ]
    assert nets.four_layer(**look, bias=False).fc3.bias is None
    centred = nets.four_layer(**look, centred=True)
    assert names(centred=True) == [*names()[:-2], "centre", *names()[-2:]]
    seen = []
    centred.fc3.register_forward_hook(lambda module, given, out: seen.append(given[0]))
    for _ in range(100):
        centred.train()(x)
    centred.eval()(x)
    for features in (seen[0], seen[-1]):  # the batch's mean, then the running one, which has come to it
        torch.testing.assert_close(features.mean(0), torch.zeros(84), atol=1e-3, rtol=0)
    alone = centred(x[:1])
    torch.testing.assert_close(alone, centred(x)[:1], atol=1e-4, rtol=1e-4)


def test_activations_are_what_a_network_cut_there_puts_out():
    net, x = nets.four_layer(shape=(1, 28, 28), mean=0.1, std=0.3, batch_norm=True), torch.rand(5, 1, 28, 28)
    net.eval()
    cut = list(dict(net.named_children())).index("relu4") + 1
    torch.testing.assert_close(nets.activations(net, x, "relu4", batch=2), net[:cut](x).detach())
    assert nets.activations(net, x, "conv1").shape == (5, 6 * 28 * 28)
    assert not net.relu4._forward_hooks
    with pytest.raises(ValueError, match="no layer 'relu9': it has normalise, conv1"):
        nets.activations(net, x, "relu9")
    large = nets.resnet18(classes=2).eval()
    x = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(large.trunk.fc(nets.activations(large, x, "trunk.avgpool")), large(x))
