"""Training: the recipe is followed, the same call gives the same weights, and a killed one goes on."""

import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tightrope import nets, penalties, seeds, synthetic, training
from tightrope.models.training import Recipe, accuracy, fit

QUICK = Recipe(lr=0.05, epochs=4, batch=32)


def blobs(n=200, seed=0):
    g = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 3, (n,), generator=g)
    return torch.randn(n, 6, generator=g) + 4 * torch.eye(6)[y], y


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


def test_the_published_schedule():
    rates = [training.HMT.rate(e / 30) for e in np.linspace(0, 30, 301)]
    np.testing.assert_allclose(
        rates, np.interp(np.linspace(0, 30, 301), [0, 12, 30], [0, 0.21, 0]), atol=1e-12
    )
    r = training.HMT
    assert (r.momentum, r.weight_decay, r.batch, r.epochs, r.clip) == (0.9, 5e-4, 128, 30, 0.5)
    assert Recipe(lr=0.3).rate(0.7) == 0.3


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fit_is_the_plain_loop(optimizer):
    """Against a loop written down from the recipe: rate by batch, clipping, decay, short last batch."""
    x, y = blobs(70)
    recipe = Recipe(optimizer, lr=0.1, weight_decay=0.01, batch=32, epochs=3, schedule="triangular", clip=0.5)
    x = x.double()
    net, plain = nets.mlp(6, (8,), 3).double(), nets.mlp(6, (8,), 3).double()
    log = fit(net, x, y, recipe, seed=5)
    make = {"sgd": lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01),
            "adam": lambda p: torch.optim.Adam(p, 0.1, weight_decay=0.01)}[optimizer]  # fmt: skip
    opt, g, losses = make(plain.parameters()), seeds.generator(5, "batches"), []
    for epoch in range(3):
        losses.append(0.0)
        for i, rows in enumerate(torch.randperm(70, generator=g).split(32)):
            opt.param_groups[0]["lr"] = np.interp(epoch + (i + 1) / 3, [0, 1.2, 3], [0, 0.1, 0])
            opt.zero_grad()
            loss = torch.nn.functional.cross_entropy(plain(x[rows]), y[rows])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(plain.parameters(), 0.5)
            opt.step()
            losses[-1] += loss.item() * len(rows) / 70
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-9, atol=1e-12)
    assert log.loss == pytest.approx(losses, rel=1e-6)  # summed in float32
    assert log.epochs == 3


@pytest.mark.parametrize("strength", [0.3, (0.3, 0.1)])
@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("divided", [False, True])
def test_a_penalty_is_the_published_formula(strength, squared, divided):
    """λ‖w‖₂/N of all weights, or layer by layer, and its other readings: against the formula in a plain loop."""
    x, y = blobs(64)
    x = x.double()
    recipe = Recipe(lr=0.1, batch=32, epochs=2, penalty=penalties.Norm(strength, squared, divided))
    net, plain = nets.mlp(6, (8,), 3).double(), nets.mlp(6, (8,), 3).double()
    log = fit(net, x, y, recipe, seed=5)
    opt, g, losses = torch.optim.SGD(plain.parameters(), 0.1, 0.9), seeds.generator(5, "batches"), []
    layers = [plain] if isinstance(strength, float) else [plain.fc1, plain.fc2]
    for _ in range(2):
        for rows in torch.randperm(64, generator=g).split(32):
            loss = torch.nn.functional.cross_entropy(plain(x[rows]), y[rows])
            for layer, a in zip(layers, np.atleast_1d(strength), strict=True):
                w = nn.utils.parameters_to_vector(layer.parameters())
                loss = loss + a * w.norm() ** (2 if squared else 1) / (len(w) if divided else 1)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item() / 2)
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-9, atol=1e-12)
    assert log.loss == pytest.approx([sum(losses[:2]), sum(losses[2:])], rel=1e-6)


def test_a_penalty_with_too_few_strengths():
    x, y = blobs(64)
    with pytest.raises(ValueError, match="strength has 3 numbers, but the network has 2 layers"):
        fit(nets.mlp(6, (8,), 3), x, y, replace(QUICK, penalty=penalties.Norm([1e-5, 1e-5, 1e-6])))


def test_a_penalty_of_weights_that_are_zero_has_no_slope():
    net = nn.Linear(3, 2)
    nn.init.zeros_(net.weight), nn.init.zeros_(net.bias)
    penalties.Norm(1.0)(net).backward()
    assert not net.weight.grad.any()


def test_same_seed_same_weights_whatever_the_global_generator():
    x, y = blobs()
    nets_ = []
    for seed, global_seed in ((1, 10), (1, 11), (2, 10)):
        torch.manual_seed(global_seed)
        nets_.append(nets.mlp(6, (8,), 3))
        fit(nets_[-1], x, y, QUICK, seed=seed)
    assert torch.equal(weights(nets_[0]), weights(nets_[1]))
    assert not torch.equal(weights(nets_[0]), weights(nets_[2]))


def test_fit_learns_stops_early_and_leaves_eval_mode():
    x, y = blobs(300)
    x_test, y_test = blobs(100, seed=1)
    net = nets.mlp(6, (16,), 3)
    modes = []
    log = fit(net, x, y, replace(QUICK, epochs=50, stop_at=0.97), 0, x_test, y_test,
              on_epoch=lambda epoch, net: modes.append((epoch, net.training)))  # fmt: skip
    assert log.stopped
    assert log.epochs < 50
    assert log.accuracy[-1] >= 0.97 > max(log.accuracy[:-1], default=0)
    assert log.accuracy[-1] == accuracy(net, x_test, y_test)
    assert modes == [(k + 1, False) for k in range(log.epochs)]
    assert not net.training


def test_table_1_recipe_reaches_all_of_the_test_set():
    train, test = synthetic.t1(2_000, seed=0), synthetic.t1(500, seed=1, rotation_seed=0)
    net = nets.mlp(100, seed=0)
    log = fit(net, train.x, train.y, training.TABLE1, 0, test.x, test.y)
    assert log.stopped
    assert log.accuracy[-1] == 1


def test_accuracy_counts_in_any_batch():
    y = torch.tensor([0, 1, 2, 2, 1])
    logits = torch.eye(3)[torch.tensor([0, 1, 2, 0, 0])]
    for batch in (1, 2, 5, 100):
        assert accuracy(lambda v: v, logits, y, batch=batch) == pytest.approx(3 / 5)


class Killed(Exception):
    pass


@pytest.mark.parametrize("recipe", [
    replace(QUICK, schedule="triangular", clip=0.5), replace(QUICK, optimizer="adam", lr=0.01),
])  # fmt: skip
@pytest.mark.parametrize("killed_in", [1, 2, 4])
def test_a_killed_training_ends_with_the_same_weights(tmp_path, recipe, killed_in):
    x, y = blobs()
    through = nets.mlp(6, (8,), 3)
    whole = fit(through, x, y, recipe, 3, x, y)
    path = tmp_path / "deep" / "net.ckpt"

    def stop(epoch, net):
        if epoch == killed_in:
            raise Killed

    with pytest.raises(Killed):
        fit(nets.mlp(6, (8,), 3), x, y, recipe, 3, x, y, checkpoint=path, on_epoch=stop)
    epochs = []
    net = nets.mlp(6, (8,), 3)
    log = fit(net, x, y, recipe, 3, x, y, checkpoint=path, on_epoch=lambda epoch, net: epochs.append(epoch))
    assert epochs == list(range(killed_in + 1, 5))
    assert torch.equal(weights(net), weights(through))
    assert log == whole
    assert [p.name for p in path.parent.iterdir()] == ["net.ckpt"]


def test_a_training_killed_hard_goes_on(tmp_path):
    """kill -9 in the middle of an epoch, in a process of its own."""
    script = """
import os, signal, sys, torch
from tightrope import nets, training
g = torch.Generator().manual_seed(0)
x, y = torch.randn(100, 6, generator=g), torch.randint(0, 3, (100,), generator=g)
net, calls = nets.mlp(6, (8,), 3), 0
def die(module, args):
    global calls
    calls += module.training
    if calls == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
net.register_forward_pre_hook(die)
training.fit(net, x, y, training.Recipe(lr=.05, epochs=4, batch=32), checkpoint=sys.argv[1])
print(sum(p.double().abs().sum().item() for p in net.parameters()).hex())
"""

    def run(name, die_at):
        command = [sys.executable, "-c", script, str(tmp_path / name), str(die_at)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    assert run("a", 10).returncode == -9  # the third epoch's second batch
    again, whole = run("a", -1), run("b", -1)
    assert again.returncode == whole.returncode == 0, again.stderr + whole.stderr
    assert again.stdout == whole.stdout


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_a_checkpoint_that_is_not_ours_is_replaced(tmp_path, content):
    x, y = blobs()
    path = tmp_path / "net.ckpt"
    if content is None:  # a good one, of another seed
        fit(nets.mlp(6, (8,), 3), x, y, QUICK, seed=9, checkpoint=path)
    else:
        path.write_bytes(content)
    net, expected = nets.mlp(6, (8,), 3), nets.mlp(6, (8,), 3)
    fit(net, x, y, QUICK, seed=1, checkpoint=path)
    fit(expected, x, y, QUICK, seed=1)
    assert torch.equal(weights(net), weights(expected))


def test_a_checkpoint_that_cannot_be_written_costs_one_warning(tmp_path):
    (tmp_path / "file").write_text("in the way")
    x, y = blobs()
    net = nets.mlp(6, (8,), 3)
    with pytest.warns(UserWarning, match="cannot be resumed") as caught:
        fit(net, x, y, QUICK, checkpoint=tmp_path / "file" / "net.ckpt")
    assert len(caught) == 1
    assert accuracy(net, x, y) > 0.9


def test_divergence_is_one_sentence():
    x, y = blobs()
    with pytest.raises(training.Diverged, match=r"diverged in epoch 1 .* smaller learning rate than 1e\+20"):
        fit(nets.mlp(6, (8, 8), 3), x, y, Recipe(lr=1e20, epochs=3))


def test_convolutions_are_cudnn_s_and_in_float32():
    seen = set()

    class Looks(torch.nn.Module):
        def forward(self, x):
            flags = torch.backends.cudnn
            if self.training:
                seen.add((flags.enabled, flags.deterministic, flags.benchmark, flags.allow_tf32))
            return x

    before = torch.backends.cudnn.allow_tf32
    x, y = blobs()
    fit(torch.nn.Sequential(Looks(), nets.mlp(6, (8,), 3)), x, y, QUICK)
    assert seen == {(True, True, False, False)}
    assert torch.backends.cudnn.allow_tf32 is before


def test_a_network_with_one_infinite_weight_has_diverged():
    """A weight may blow up in the last step, after the loss was taken."""
    x, y = blobs()
    net = nets.mlp(6, (8,), 3)
    net.fc2.weight.register_hook(lambda gradient: gradient * torch.tensor([[torch.inf], [1.0], [1.0]]))
    with pytest.raises(training.Diverged, match="epoch 1"):
        fit(net, x, y, Recipe(lr=0.05, batch=len(x), epochs=1))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda x, y: (x, y.float()), r"y must be an int64 tensor \(200,\)"),
        (lambda x, y: (x, y[:-1]), r"y must be an int64 tensor \(200,\)"),
        (lambda x, y: (x, y + 1), "y must hold labels from 0 to 2"),
        (lambda x, y: (x, y - 1), "y must hold labels from 0 to 2"),
        (lambda x, y: (x[:0], y[:0]), r"\(0, 6\)"),
        (lambda x, y: (x.long(), y), "not an int64 tensor"),
        (lambda x, y: (x.index_fill(0, torch.tensor([3]), float("nan")), y), "NaN or infinity"),
        (lambda x, y: (x[:, :5], y), r"\(N, 6\), not a float32 tensor \(1, 5\)"),
        (lambda x, y: (x.double(), y), "float32"),
    ],
)
def test_data_that_do_not_fit_are_refused_in_a_sentence(change, says):
    x, y = change(*blobs())
    net = nets.mlp(6, (8,), 3)
    before = weights(net)
    with pytest.raises(ValueError, match=says):
        fit(net, x, y, QUICK)
    assert torch.equal(weights(net), before)


def test_arguments_that_do_not_fit_are_refused_in_a_sentence():
    x, y = blobs()
    net = nets.mlp(6, (8,), 3)
    with pytest.raises(ValueError, match="needs x_test"):
        fit(net, x, y, replace(QUICK, stop_at=1.0))
    with pytest.raises(ValueError, match="both"):
        fit(net, x, y, QUICK, x_test=x)
    with pytest.raises(ValueError, match="all frozen"):
        fit(nets.mlp(6, (8,), 3).requires_grad_(False), x, y, QUICK)
    with pytest.raises(ValueError, match=r"nets\.TwoLogits"):
        fit(nets.mlp(6, (8,), 1), x, torch.zeros_like(y), QUICK)
    for bad in ({"optimizer": "lion"}, {"schedule": "cosine"}, {"epochs": 0}, {"batch": 0}, {"lr": -1.0},
                {"lr": float("nan")}, {"clip": 0.0}, {"stop_at": 97.0}, {"peak": 1.0}):  # fmt: skip
        with pytest.raises(ValueError, match=rf"^{next(iter(bad))} must be"):
            Recipe(**bad)
    with pytest.raises(ValueError, match=r"batch of real inputs .*\(0, 6\)"):
        accuracy(net, x[:0], y[:0])


def test_progress_names_the_epoch_and_leaves_nothing_on_the_page(tmp_path, monkeypatch, capfd):
    path = tmp_path / "line"
    monkeypatch.setenv("TIGHTROPE_PROGRESS", os.fspath(path))
    monkeypatch.setattr("tightrope.progress.EVERY", 0.0)
    x, y = blobs()
    seen = []
    fit(nets.mlp(6, (8,), 3), x, y, QUICK, on_epoch=lambda epoch, net: seen.append(path.read_text()))
    assert [line.split(",")[0].split(" ·")[0].strip() for line in seen] == [
        f"epoch {k}/4" for k in range(1, 5)
    ]
    assert path.read_text() == "\n"
    monkeypatch.delenv("TIGHTROPE_PROGRESS")
    fit(nets.mlp(6, (8,), 3), x, y, QUICK)
    assert capfd.readouterr() == ("", "")


# --- augmentation ------------------------------------------------------------------------------------------


def test_copies_alternate_between_images_and_mirror_images_and_move_from_the_third_on():
    x = torch.rand(6, 2, 9, 7, generator=torch.Generator().manual_seed(0))
    y = torch.arange(6)
    images, labels = training.augmented(x, y, copies=4, shift=2, seed=3)
    assert images.shape == (24, 2, 9, 7)
    assert torch.equal(labels, y.repeat(4))
    assert torch.equal(images[:6], x)
    assert torch.equal(images[6:12], x.flip(-1))
    # Each moved image is one of the 25 crops of the image with reflected edges; not all by the same move.
    padded = torch.nn.functional.pad(x, (2, 2, 2, 2), mode="reflect")
    for start, source in ((12, padded), (18, padded.flip(-1))):
        moves = set()
        for i in range(6):
            found = [
                (dy, dx)
                for dy in range(5)
                for dx in range(5)
                if torch.equal(images[start + i], source[i, :, dy : dy + 9, dx : dx + 7])
            ]
            assert len(found) == 1
            moves.add(found[0])
        assert len(moves) > 1


def test_augmentation_comes_from_its_seed_and_without_shift_repeats():
    x, y = torch.rand(40, 1, 5, 5), torch.zeros(40, dtype=torch.int64)
    first, again = (training.augmented(x, y, 3, 1, seed=1)[0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, training.augmented(x, y, 3, 1, seed=2)[0])
    assert torch.equal(training.augmented(x, y, 3, shift=0)[0], torch.cat([x, x.flip(-1), x]))
    assert torch.equal(training.augmented(x, y, copies=1)[0], x)


@pytest.mark.parametrize(
    ("shape", "copies", "shift"),
    [((4, 5, 5), 2, 1), ((4, 1, 5, 5), 0, 1), ((4, 1, 5, 5), 2, 5), ((3, 1, 5, 5), 2, 1)],
)
def test_what_cannot_be_augmented_is_told_in_a_sentence(shape, copies, shift):
    with pytest.raises(ValueError, match=r"^(x|y|copies|shift) must be"):
        training.augmented(torch.rand(shape), torch.zeros(4, dtype=torch.int64), copies, shift)


def test_a_batch_of_one_is_refused_where_a_batch_norm_has_one_number_a_channel():
    x, y = blobs()
    flat = lambda: nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    for batch in (199, 1):
        net = flat()
        with pytest.raises(ValueError, match=rf"^batch={batch} leaves one of 200 samples alone"):
            fit(net, x, y, replace(QUICK, batch=batch))
        assert net[1].num_batches_tracked == 0
        assert not net[1]._forward_pre_hooks
    # Where one sample has a variance of its own, or no batch is that short, there is nothing to refuse.
    fit(flat(), x, y, replace(QUICK, batch=198, epochs=1))
    image = nn.Sequential(nn.Unflatten(1, (1, 2, 3)), nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(6, 3))
    assert math.isfinite(fit(image, x, y, replace(QUICK, batch=199, epochs=1)).loss[0])
