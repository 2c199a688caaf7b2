"""Random streams that share nothing: one seed, as many purposes as there are.

A generator seeded with 0 for the weights of a network and another seeded with 0 for a random subspace give the
*same* numbers, and the "random" subspace is then spanned by rows of the first layer. (torch's CPU generator also
keeps only 32 bits of a seed, so adding a large constant changes nothing.) So every draw names its purpose.
"""

from __future__ import annotations

import hashlib

import torch

from tightrope import refusals


def generator(
    seed: int | torch.Generator, purpose: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator on `device` for (`seed`, `purpose`); a generator is passed through as it is.

    Raises ValueError for a seed that is no whole number of at least 0.
    """
    if isinstance(seed, torch.Generator):
        return seed
    refusals.whole(0, seed=seed)
    refusals.instance(str, purpose=purpose)
    refusals.device(device=device)
    digest = hashlib.blake2b(f"{purpose} {seed}".encode(), digest_size=4).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "big"))
