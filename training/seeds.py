"""Random numbers that depend on where they are used, not on what was drawn before.

Any worker can make any chip of any step again. What a run draws depends neither on the number of
workers nor on interruptions.
"""

import numpy as np
import torch


def rng(seed: int, *path: int) -> np.random.Generator:
    """A generator for one place of a run, such as (step, chip)."""
    return np.random.default_rng([seed, *path])


def torch_seed(seed: int, *path: int) -> int:
    """A seed for torch's generators, for one place of a run."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


def torch_rng(seed: int, *path: int) -> torch.Generator:
    """A generator of torch for one place of a run."""
    return torch.Generator().manual_seed(torch_seed(seed, *path))
