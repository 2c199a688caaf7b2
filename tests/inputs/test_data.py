import gzip
import hashlib
import pickle
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import conftest
import make_sample
from tightrope import data
from tightrope.inputs import _torchvision, download


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch):
    monkeypatch.setattr(download, "_unreachable", {})


def test_sample_is_real_digits_balanced_over_the_classes():
    for split, of_each in (("train", 1_200), ("test", 200)):
        x, y = data.load("mnist", split)
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.shape == (10 * of_each, 1, 28, 28)
        assert torch.equal(y.bincount(), torch.full((10,), of_each))
        assert (x.amin().item(), x.amax().item()) == (0, 1)
        # A nearest-mean classifier reads real digits (82 % on MNIST), not noise or shuffled labels.
        means = torch.stack([x[y == digit].mean(0) for digit in range(10)]).flatten(1)
        assert (torch.cdist(x.flatten(1), means).argmin(1) == y).float().mean() > 0.75


def test_sample_keeps_train_and_test_apart():
    prints = [{image.tobytes() for image in data.load("mnist", s)[0].numpy()} for s in data.SPLITS]
    assert not prints[0] & prints[1]


def test_readme_names_the_very_file():
    readme = (data.SAMPLES / "README.md").read_text()
    assert hashlib.sha256((data.SAMPLES / "mnist.npz").read_bytes()).hexdigest() in readme


def test_sample_can_be_made_again(tmp_path, monkeypatch):
    """From IDX files that hold every digit twice the script takes the stated number; where the original is at
    hand, it makes this very sample."""
    originals = {}
    full = Path(conftest.GIVEN_DATA or tmp_path) / "mnist.npz"
    if full.is_file():
        with np.load(full) as archive:
            originals = {key: archive[key] for key in archive.files}
    with np.load(data.SAMPLES / "mnist.npz") as archive:
        sample = {key: archive[key] for key in archive.files}
    for split in data.SPLITS:
        images = originals.get(f"x_{split}", np.concatenate([sample[f"x_{split}"]] * 2))
        labels = originals.get(f"y_{split}", np.concatenate([sample[f"y_{split}"]] * 2)).astype(np.uint8)
        stem = tmp_path / make_sample.PREFIX[split]
        Path(f"{stem}-images-idx3-ubyte").write_bytes(bytes(16) + images.tobytes())
        Path(f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(bytes(8) + labels.tobytes(), 1))
    monkeypatch.setattr(make_sample, "SAMPLE", tmp_path / "again.npz")
    make_sample.main(tmp_path)
    with np.load(tmp_path / "again.npz") as again:
        for key in again.files:
            assert again[key].shape == sample[key].shape
            assert not originals or np.array_equal(again[key], sample[key])


def test_subset_is_drawn_by_its_seed_and_keeps_images_with_their_labels():
    x, y = data.load("mnist", "test")
    index = {image.tobytes(): i for i, image in enumerate(x.numpy())}
    a, b = data.load("mnist", "test", n=50, seed=1)
    rows = [index[image.tobytes()] for image in a.numpy()]
    assert len(set(rows)) == 50
    assert rows != sorted(rows)
    assert torch.equal(y[rows], b)
    assert torch.equal(data.load("mnist", "test", n=50, seed=1)[0], a)
    assert not torch.equal(data.load("mnist", "test", n=50, seed=2)[0], a)
    assert torch.equal(data.load("mnist", "test", n=20, seed=1)[0], a[:20])


def test_no_global_generator_is_read_or_moved():
    before = torch.random.get_rng_state()
    first = data.load("mnist", "test", n=5)[1]
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(99)
    assert torch.equal(data.load("mnist", "test", n=5)[1], first)


def test_order_of_places(tmp_path, home, npz, monkeypatch):
    assert data.where("mnist") == "sample inside the package"
    cached = npz(home / "mnist.npz", fill=51)
    assert data.where("mnist") == str(cached)
    assert data.load("mnist", "test")[0].unique().item() == pytest.approx(0.2)
    given = npz(tmp_path / "given" / "mnist.npz", fill=102)
    monkeypatch.setenv("TIGHTROPE_DATA", str(given.parent))
    assert data.where("mnist") == str(given)
    assert data.load("mnist", "train")[0].unique().item() == pytest.approx(0.4)
    assert data.where("cifar10") is None


def test_channels_move_to_the_front(home):
    home.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    empty = {"x_train": images[:0], "y_train": np.zeros(0, np.int64)}
    np.savez(home / "cifar10.npz", x_test=images, y_test=np.array([0, 9, 4], np.uint8), **empty)
    x, y = data.load("cifar10", "test")
    assert torch.equal(x, torch.tensor(images).permute(0, 3, 1, 2) / 255)
    assert x.is_contiguous()
    assert y.tolist() == [0, 9, 4]


def test_mnist_asks_no_network_unless_told_to(monkeypatch):
    asked = []
    monkeypatch.setattr(download, "fetch", lambda name, path: asked.append(name))
    data.load("mnist", "test", n=1)
    data.load("mnist", "test", n=1, download=False)
    assert asked == []


@pytest.mark.parametrize("how", ["argument", "variable"])
def test_a_failed_download_of_mnist_says_so_and_takes_the_sample(how, monkeypatch):
    monkeypatch.setenv("TIGHTROPE_DOWNLOAD", "1" if how == "variable" else "0")
    with pytest.warns(
        UserWarning, match=r"mnist: the download failed: .* the sample inside the package is used\.$"
    ):
        x, _ = data.load("mnist", "test", download=True if how == "argument" else None)
    assert len(x) == 2_000


def test_closed_network_is_tried_once(monkeypatch):
    tried = []

    def resolve(host, *rest, **options):
        tried.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for _ in range(3):
        with pytest.raises(data.DataMissing, match=r"^cifar10 is not on this machine .*TIGHTROPE_DATA.*\.$"):
            data.load("cifar10", "test")
    assert tried == ["www.cs.toronto.edu"]


def test_a_resolver_that_never_answers_is_left_alone(monkeypatch):
    answer = threading.Event()

    def resolve(*rest, **options):
        answer.wait()
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(download, "PATIENCE", 0.05)
    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        with pytest.raises(data.DataMissing, match="does not answer"):
            data.load("cifar10", "test")
        assert not answer.is_set()
    finally:
        answer.set()


def test_the_proxy_is_what_must_answer(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy.invalid:3128")
    with pytest.raises(data.DataMissing, match=r"proxy\.invalid cannot be reached"):
        data.load("cifar10", "test")


def _idx(folder: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """The files torchvision's MNIST looks for, so that it need not download them."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
            content = bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()
            (raw / f"{prefix}-{name}-ubyte").write_bytes(content)
            (raw / f"{prefix}-{name}-ubyte.gz").write_bytes(content)


def test_downloads_are_kept_in_the_cache(home, monkeypatch):
    images = np.arange(2 * 28 * 28, dtype=np.uint8).reshape(2, 28, 28)
    labels, fetch = np.array([3, 1], np.uint8), download._SOURCES["mnist"][1]

    def read(folder):
        assert socket.getdefaulttimeout() is not None  # else urllib would wait for ever
        _idx(Path(folder), images, labels)
        return fetch(folder)

    monkeypatch.setitem(download._SOURCES, "mnist", ("localhost", read))
    monkeypatch.setattr(download, "_probe", lambda host: None)
    x, y = data.load("mnist", "train", download=True)
    assert torch.equal(x[:, 0], torch.tensor(images) / 255)
    assert y.tolist() == [3, 1]
    assert [p.name for p in home.iterdir()] == ["mnist.npz"]
    assert data.where("mnist") == str(home / "mnist.npz")
    assert socket.getdefaulttimeout() is None


def test_cifar10_comes_in_keras_form(tmp_path, monkeypatch):
    datasets = _torchvision.torchvision().datasets
    rows = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
    folder = tmp_path / datasets.CIFAR10.base_folder
    folder.mkdir()
    for name, content in (("a", {"data": rows, "labels": [5, 2]}), ("batches.meta", {"label_names": ["x"]})):
        (folder / name).write_bytes(pickle.dumps(content))
    monkeypatch.setattr(datasets.CIFAR10, "train_list", [("a", None)])
    monkeypatch.setattr(datasets.CIFAR10, "test_list", [("a", None)])
    monkeypatch.setattr(
        datasets.CIFAR10, "meta", {"filename": "batches.meta", "key": "label_names", "md5": None}
    )
    arrays = download._SOURCES["cifar10"][1](str(tmp_path))
    assert np.array_equal(arrays["x_train"], rows.reshape(2, 3, 32, 32).transpose(0, 2, 3, 1))
    assert arrays["y_test"].tolist() == [5, 2]


def test_imagenette_is_cut_to_squares(tmp_path):
    for split in ("train", "val"):
        for wnid, size, grey in (("n01440764", (160, 200), 40), ("n02102040", (213, 160), 200)):
            folder = tmp_path / "imagenette2-160" / split / wnid
            folder.mkdir(parents=True)
            Image.new("RGB", size, (grey,) * 3).save(folder / "one.JPEG")
    arrays = download._SOURCES["imagenette128"][1](str(tmp_path))
    assert arrays["x_test"].shape == (2, 128, 128, 3)
    assert np.abs(arrays["x_train"].mean((1, 2, 3)) - [40, 200]).max() < 2
    assert arrays["y_train"].tolist() == [0, 1]


def test_torchvision_loads_beside_this_torch():
    net = _torchvision.torchvision().models.resnet18(num_classes=3).eval()
    with torch.no_grad():
        assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize("first", ["import tightrope", "from tightrope import margins, nets"])
def test_torchvision_loads_after_the_library_was_imported_by_whoever_imports_it(first):
    code = f"{first}; import sys, torchvision; torchvision.models.resnet18"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_module_text_and_code_agree_on_the_names():
    assert set(data.DATA_SETS) == {"mnist", "cifar10", "imagenette128", "imagenet_sample224"}
    with pytest.raises(ValueError, match=re.escape(", ".join(map(repr, data.DATA_SETS)))):
        data.load("mnits", "test")


def test_a_file_that_is_written_again_is_read_again(home, npz):
    """The last splits stay in memory: not beyond their file's life, and not to be changed by who holds the tensors."""
    npz(home / "mnist.npz")
    x, y = data.load("mnist", "test")
    before = y.clone()
    x += 1
    y += 1
    x, y = data.load("mnist", "test")
    assert not x.any()
    assert torch.equal(y, before)
    npz(home / "mnist.npz", fill=255)
    assert (data.load("mnist", "test")[0] == 1).all()
