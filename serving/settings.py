"""Settings of the service: what it offers, and its limits."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from quakestream.errors import ConfigError, Problem
from quakestream.storage import StorageOptions

SETTINGS_VARIABLE = "QUAKESTREAM_SERVICE"
"""Environment variable with the path of the settings, for `serve run serving.app:build`."""

BATCH_S = 0.25
"""Time that a batch of chips should take at most: an answer waits for the one under way."""
QUEUE_S = 0.5
"""Time that the queue of chips should take at most, so that an answer comes within a second."""
LARGEST_BATCH = 32
LONGEST_REQUEST_S = 110.0
"""Below the time after which Serve's proxy gives up, which tells the client nothing."""
QUEUED = range(16, 257)
"""Least and most chips that may wait where the measured speed decides."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Limits(_Section):
    """Limits of requests. Each is answered with a problem document that names it."""

    area_km2: float = Field(default=25.0, gt=0, description="Largest AOI of a job, km²")
    body_bytes: int = Field(default=10_000_000, gt=0, description="Largest body of a request")
    chip_px: int = Field(default=4_194_304, gt=0, description="Most pixels of a decoded chip")
    jobs_per_token: int = Field(default=4, ge=1, description="Unfinished jobs of one token")
    jobs_waiting: int = Field(default=50, ge=1, description="Jobs that wait, of all tokens")
    requests_per_minute: int = Field(default=240, ge=1, description="Requests of one token")
    rows_by_value: int = Field(
        default=2_000, ge=0, description="Most buildings of a result that is sent by value"
    )
    request_s: float = Field(
        default=60.0, gt=0, le=LONGEST_REQUEST_S, description="Time to answer a request, seconds"
    )
    link_s: int = Field(default=3_600, ge=60, description="Life of a link to a map's page, seconds")


class Batching(_Section):
    """How `/predict` gathers chips."""

    size: int | None = Field(
        default=None,
        ge=1,
        description="Most chips that are scored together; left out: as many as take 0.25 s",
    )
    queued: int | None = Field(
        default=None,
        ge=1,
        description="Chips that may wait, of a bundle in one ingress, before 503 is answered; "
        "left out: as many as take 0.5 s",
    )

    def most_together(self, chip_s: float | None) -> int:
        """Most chips of a batch, where a chip was measured to take so long; None: not yet."""
        if self.size is not None:
            return self.size
        if chip_s is None:
            return 1
        return min(max(int(BATCH_S / max(chip_s, 1e-6)), 1), LARGEST_BATCH)

    def most_queued(self, chip_s: float | None) -> int:
        """Most chips that wait, where a chip was measured to take so long; None: not yet."""
        if self.queued is not None:
            return self.queued
        if chip_s is None:
            return LARGEST_BATCH
        return min(max(int(QUEUE_S / max(chip_s, 1e-6)), QUEUED[0]), QUEUED[-1])


class ServiceSettings(_Section):
    """The settings file, YAML. Relative paths are relative to its folder."""

    root: str = Field(description="Folder or URI where jobs and their maps are kept")
    tokens: str = Field(description="File of the hashed tokens")
    url: str = Field(
        default="",
        pattern=r"^(https?://[^\s?#]+)?$",
        description="Address that clients use, where a proxy stands before the service: links name "
        "it. Left out, the one of the request",
    )
    runs: dict[str, str] = Field(
        default_factory=dict,
        description="Run files by name: a job maps an area with one of them",
    )
    maps: dict[str, str] = Field(
        default_factory=dict, description="Finished maps by name, shown to every token that reads"
    )
    bundles: list[str] = Field(
        default_factory=lambda: ["damage-turkiye-2023"], description="Bundles of /predict"
    )
    runtime: str = Field(default="auto", description="Runtime of the bundles of /predict")
    mappers: int = Field(default=1, ge=1, description="Jobs that run at the same time")
    ingresses: int = Field(default=1, ge=1, description="Processes that answer HTTP")
    predictors: int = Field(default=1, ge=1, description="Processes that score chips")
    limits: Limits = Field(default_factory=Limits)
    batching: Batching = Field(default_factory=Batching)
    storage: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Endpoints per protocol, as in a run file"
    )

    @field_validator("runs", "maps")
    @classmethod
    def _names_are_plain(cls, places: dict[str, str]) -> dict[str, str]:
        for name in places:
            if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
                raise ValueError(f"name {name!r} may hold letters, digits, - and _ only")
        return places

    @property
    def options(self) -> StorageOptions:
        """Settings of the stores."""
        return StorageOptions(protocols=self.storage)

    @classmethod
    def of(cls, content: Mapping[str, Any], folder: Path) -> Self:
        """Settings from the content of a file in a folder.

        Raises:
            ConfigError: with every problem.
        """
        try:
            settings = cls.model_validate(content)
        except ValidationError as error:
            raise ConfigError.of_all(
                Problem(str(e["msg"]), ".".join(map(str, e["loc"]))) for e in error.errors()
            ) from None
        return settings.model_copy(
            update={
                "root": _place(settings.root, folder),
                "tokens": _place(settings.tokens, folder),
                "runs": {name: _place(p, folder) for name, p in settings.runs.items()},
                "maps": {name: _place(p, folder) for name, p in settings.maps.items()},
            }
        )


def read_settings(path: str | None = None) -> ServiceSettings:
    """Settings from a YAML file; None: the file that `QUAKESTREAM_SERVICE` names.

    Raises:
        ConfigError: there is no such file, or it is wrong.
    """
    path = path or os.environ.get(SETTINGS_VARIABLE, "")
    if not path:
        raise ConfigError(
            "no settings of the service",
            SETTINGS_VARIABLE,
            expected="the path of a YAML file",
            remedy="`quakestream serve --example` prints one",
        )
    file = Path(path)
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError("cannot read the settings", path, "a YAML file", str(error)) from None
    if not isinstance(content, dict):
        raise ConfigError("not settings of the service", path, "keys such as root and tokens")
    return ServiceSettings.of(content, file.resolve().parent)


def _place(place: str, folder: Path) -> str:
    return place if "://" in place or Path(place).is_absolute() else str(folder / place)
