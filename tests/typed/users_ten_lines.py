"""What a user writes: `basedpyright` has to find nothing here (tests/test_house.py)."""

import torch

from tightrope import attacks, data, margins, nets, spectra, training

x, y = data.load("mnist", "train", n=1_000, seed=0)
net = nets.lenet(seed=0)
log = training.fit(net, x, y, training.Recipe(lr=0.05, epochs=1))
windows = spectra.dct_windows((1, 28, 28), size=8, step=4)
m = margins.deepfool(net, x[:8], windows, tight=20, keep=True)
median: torch.Tensor = m.quantile([0.05, 0.5, 0.95])
a = attacks.pgd(net, x[:8], y[:8], eps=1.5, restarts=2)
robust = 1 - a.found.float().mean().item()
print(f"{log.epochs} epoch, median margin {median[1, 0]:.2f}, robust accuracy {robust:.2f}", a.norm().shape)
