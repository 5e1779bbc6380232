"""Networks by name: what a checkpoint's configuration is turned back into."""

from torch import nn

from quakestream.errors import ConfigError
from training.networks.fc_siam import WIDTHS, FcSiam, Mode

__all__ = ["FcSiam", "build_network"]

_MODES: dict[str, Mode] = {"ef": "ef", "siam_conc": "conc", "siam_diff": "diff"}


def build_network(name: str, *, dropout: float = 0.0) -> nn.Module:
    """The untrained network called `fc_MODE_WIDTH`, such as `fc_siam_diff_small`.

    Raises:
        ConfigError: if no network has that name.
    """
    known = {f"fc_{key}_{width}": (mode, width) for key, mode in _MODES.items() for width in WIDTHS}
    if name not in known:
        raise ConfigError(f"network: no network is called {name!r}; known: {', '.join(known)}")
    mode, width = known[name]
    return FcSiam(mode=mode, widths=WIDTHS[width], dropout=dropout)
