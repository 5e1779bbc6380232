"""Random numbers that depend on where they are used, not on what was drawn before.

Any chip of any step can be made again by any worker: what a run draws does not depend on how many
workers share it, nor on whether it was interrupted.
"""

import numpy as np
import torch


def rng(seed: int, *path: int) -> np.random.Generator:
    """Numbers for one place of a run, such as (step, chip)."""
    return np.random.default_rng([seed, *path])


def torch_seed(seed: int, *path: int) -> int:
    """The same for torch's generators."""
    return int(np.random.SeedSequence([seed, *path]).generate_state(1, np.uint64)[0] >> 1)


def torch_rng(seed: int, *path: int) -> torch.Generator:
    """A generator of its own for one place of a run."""
    return torch.Generator().manual_seed(torch_seed(seed, *path))
