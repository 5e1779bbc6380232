"""Networks by name."""

from collections.abc import Callable, Iterable
from functools import partial

from torch import nn

from quakestream.errors import ConfigError
from training.networks.base import PixelNetwork
from training.networks.fc_siam import WIDTHS, Embedding, FcSiam, Mode
from training.networks.hazard import HazardNet
from training.networks.inputs import NetworkInputs, of_bands
from training.networks.landslide import LANDSLIDE_NETWORKS
from training.networks.lite_siam import LiteSiam
from training.networks.metadata import ENCODERS, EncoderKind
from training.networks.metaformer import VARIANTS, MetaFormer
from training.networks.transfer import TransferDecoder

__all__ = [
    "Embedding",
    "FcSiam",
    "HazardNet",
    "LiteSiam",
    "MetaFormer",
    "NetworkInputs",
    "PixelNetwork",
    "TransferDecoder",
    "build_fc_siam",
    "build_landslide_network",
    "build_network",
    "network_names",
    "of_bands",
]

_MODES: dict[str, Mode] = {"ef": "ef", "siam_conc": "conc", "siam_diff": "diff"}
_DECODERS = (16, 32, 64, 256)
"""Widths of the decoder of Smart Transfer, which publishes 256."""
_Builder = Callable[[float, NetworkInputs], nn.Module]


def build_network(
    name: str, *, dropout: float = 0.0, inputs: NetworkInputs | None = None
) -> nn.Module:
    """Builds the untrained network of that name.

    Args:
        name: `fc_MODE_WIDTH` compares two dates per pixel, such as `fc_siam_diff_small`;
            `fc_siam_diff_lite0` does so on an ImageNet encoder.
            `qif_SIZE` grades one crop. `qmf_SIZE[_ENCODER]` grades one crop with hazard values.
            `hazard_ENCODER` grades hazard values alone. `transfer_WIDTH` decodes the features of a
            frozen encoder, as many as `inputs.bands`. Names in `LANDSLIDE_NETWORKS` score the
            pixels of one image.
        dropout: share of activations that are dropped in training (`fc`, `hazard`, landslides),
            or share of samples that skip the deepest block (`qif`, `qmf`).
        inputs: sizes of inputs and outputs; `fc` networks take three bands of any size.

    Raises:
        ConfigError: if no network has that name, or it cannot be built for these inputs.
    """
    builders = _builders()
    if name not in builders:
        raise _unknown(name, builders)
    inputs = inputs or NetworkInputs()
    wants_hazard = name.startswith(("qmf_", "hazard_"))
    if wants_hazard and not inputs.hazard_groups:
        raise ConfigError(
            "network needs hazard values", name, expected="groups such as (3, 30, 1)", got="none"
        )
    if not wants_hazard and inputs.hazard_groups:
        raise ConfigError(
            "network takes no hazard values", name, got=f"groups {inputs.hazard_groups}"
        )
    return builders[name](dropout, inputs)


def build_fc_siam(name: str, *, dropout: float = 0.0) -> FcSiam:
    """Builds the untrained network `fc_MODE_WIDTH`.

    Raises:
        ConfigError: if no such network has that name.
    """
    known = {f"fc_{key}_{width}": (mode, width) for key, mode in _MODES.items() for width in WIDTHS}
    if name not in known:
        raise _unknown(name, known)
    mode, width = known[name]
    return FcSiam(mode=mode, widths=WIDTHS[width], dropout=dropout)


def build_landslide_network(
    name: str, inputs: NetworkInputs, *, dropout: float = 0.0
) -> PixelNetwork:
    """Builds the untrained landslide network of that name.

    Raises:
        ConfigError: if no landslide network has that name, or it cannot be built for these inputs.
    """
    if name not in LANDSLIDE_NETWORKS:
        raise _unknown(name, LANDSLIDE_NETWORKS)
    return LANDSLIDE_NETWORKS[name].build(dropout, inputs)


def network_names() -> tuple[str, ...]:
    """Every name that `build_network` knows."""
    return tuple(_builders())


def _unknown(name: str, known: Iterable[str]) -> ConfigError:
    return ConfigError(
        "unknown network", "network", expected=f"one of {', '.join(known)}", got=repr(name)
    )


def _builders() -> dict[str, _Builder]:
    known: dict[str, _Builder] = {n: entry.build for n, entry in LANDSLIDE_NETWORKS.items()}
    known |= {f"transfer_{width}": partial(_transfer, width) for width in _DECODERS}
    for key, mode in _MODES.items():
        known |= {f"fc_{key}_{width}": partial(_fc_siam, mode, width) for width in WIDTHS}
    known["fc_siam_diff_lite0"] = _lite_siam
    known |= {f"qif_{size}": partial(_metaformer, size, "mlp") for size in VARIANTS}
    for encoder in ENCODERS:
        suffix = "" if encoder == "mlp" else f"_{encoder}"
        known |= {f"qmf_{size}{suffix}": partial(_metaformer, size, encoder) for size in VARIANTS}
        known[f"hazard_{encoder}"] = partial(_hazard, encoder)
    return known


def _fc_siam(mode: Mode, width: str, dropout: float, inputs: NetworkInputs) -> nn.Module:
    return FcSiam(mode=mode, widths=WIDTHS[width], dropout=dropout)


def _lite_siam(dropout: float, inputs: NetworkInputs) -> nn.Module:
    return LiteSiam(dropout=dropout)


def _transfer(width: int, dropout: float, inputs: NetworkInputs) -> nn.Module:
    return TransferDecoder(inputs.bands, width)


def _metaformer(
    size: str, encoder: EncoderKind, dropout: float, inputs: NetworkInputs
) -> nn.Module:
    return MetaFormer(VARIANTS[size], inputs, encoder=encoder, drop_path=dropout)


def _hazard(encoder: EncoderKind, dropout: float, inputs: NetworkInputs) -> nn.Module:
    return HazardNet(inputs, encoder, dropout=dropout)
