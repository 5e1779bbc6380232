"""What all networks have in common that score the pixels of one image."""

from pathlib import Path
from typing import Self

from torch import Tensor, nn

from quakestream.errors import ConfigError, RequestError, ShapeError
from training.networks.importing import ImportReport
from training.networks.inputs import NetworkInputs
from training.networks.lora import LoraLinear


class PixelNetwork(nn.Module):
    """Scores the pixels of one image.

    Takes z-scores (N, band, y, x), 0 where a pixel is invalid, with the bands in the order of
    `inputs.band_names`. Gives logits (N, output, y, x) of the same side. Weights under `encoder`
    are those that pre-training gives.

    Args:
        inputs: bands, outputs, and the side of a window for networks that have a fixed one.
        stride: sides of the image must be multiples of this.
    """

    encoder: nn.Module

    def __init__(self, inputs: NetworkInputs, *, stride: int) -> None:
        super().__init__()
        self.inputs, self.stride = inputs, stride
        self.encoder_frozen = False

    def freeze_encoder(self) -> None:
        """Freezes the weights and batch statistics of the encoder; adapters in it still train."""
        for name, parameter in self.encoder.named_parameters():
            parameter.requires_grad_("lora_" in name)
        self.encoder_frozen = True
        self.train(self.training)

    def thaw_encoder(self) -> None:
        """Lets the encoder train; the base weights under adapters stay as they are."""
        adapted = [m for m in self.encoder.modules() if isinstance(m, LoraLinear)]
        self.encoder.requires_grad_(True)
        for module in adapted:
            module.base.requires_grad_(False)
        self.encoder_frozen = False
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Sets the mode; a frozen encoder stays in evaluation mode, but for its adapters."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
            for module in self.encoder.modules():
                if isinstance(module, LoraLinear):
                    module.train(mode)
        return self

    def load_official(self, path: Path | None = None) -> ImportReport:
        """Loads published weights; after an error the network is unchanged.

        Args:
            path: the file; None for one that is installed.

        Raises:
            RequestError: if there are no published weights, or the file holds others.
        """
        raise RequestError("no published weights fit this network", type(self).__name__)

    def band_names(self) -> tuple[str, ...]:
        """Names of the bands.

        Raises:
            ConfigError: if the network was built without them.
        """
        if not self.inputs.band_names:
            raise ConfigError(
                "bands have no names", type(self).__name__, remedy="state band_names of its inputs"
            )
        return self.inputs.band_names

    def check_image(self, image_NBYX: Tensor, side: int | None = None) -> None:
        """Checks bands and sides.

        Args:
            image_NBYX: the input.
            side: the only side that fits, if there is one.

        Raises:
            ShapeError: if the network does not take such an image.
        """
        _, bands, height, width = image_NBYX.shape
        fits = height % self.stride == 0 and width % self.stride == 0
        wanted = f"sides that are multiples of {self.stride}"
        if side is not None:
            fits, wanted = height == width == side, f"sides of {side}"
        if not fits or bands != self.inputs.bands:
            raise ShapeError(
                "image does not fit the network",
                "network input",
                expected=f"{self.inputs.bands} bands and {wanted}",
                got=f"{bands} bands, {height}×{width}",
            )
