"""All errors that quakestream raises on purpose.

    QuakestreamError
    ├── RequestError (ValueError)          the request is wrong: exit code 2
    │   ├── ConfigError                    a key, value or path of the run file
    │   ├── AoiError                       the AOI is unreadable or outside all imagery
    │   │   └── NoImageryError             no post-event scene shows it, as yet
    │   ├── FootprintError                 the footprint file is empty, unreadable, has no CRS
    │   │   └── NoFootprintError           none of its footprints lies in the AOI
    │   ├── NoPairError                    no building has the images that the model needs
    │   └── BundleError                    the bundle is missing or is not a bundle
    │       └── DigestError                a file of a bundle differs from its digest
    ├── InputError (ValueError)            one input is bad: it is quarantined
    │   ├── SceneError                     a scene's header, CRS, bands or georeference
    │   │   ├── BandOrderError             nothing tells which bands are red, green and blue
    │   │   └── ReadError (OSError)        blocks of a scene cannot be read
    │   │       └── TileReadError          of a tile of an acquisition; `where` is the tile's id
    │   ├── CatalogItemError               one STAC item
    │   └── HazardError                    a ShakeMap, VS30 or proxy layer
    ├── ShapeError (ValueError)            arrays contradict each other
    ├── EngineError (RuntimeError)         a runtime refuses or fails
    │   ├── DeviceError                    this machine lacks a device that it needs
    │   └── NotBuiltError                  no trusted engine was built for this device
    ├── StorageError (OSError)             bytes cannot be read or written: exit code 3
    │   ├── storage.MissingObjectError (FileNotFoundError)   the object does not exist
    │   ├── storage.NoCredentialsError     this machine has no credentials for the store
    │   ├── storage.NoAnswerError          a server cannot be reached, or stays silent
    │   ├── LedgerError                    objects of the ledger are damaged: they are made again
    │   └── InUseError                     another run writes to the output
    ├── NothingReadError (OSError)         no scene could be read, so there is no map: exit code 3
    ├── ClusterError (ConnectionError)     no Ray cluster, or it lost the job: exit code 3
    ├── AccountingError (RuntimeError)     rows out ≠ footprints in: a bug, never hidden
    └── MissingExtraError (ImportError)    an optional dependency is not installed

An error carries fields: what is wrong, where, what was expected, what was got, and what to do.
The command line and the service format them. No code reads the text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from quakestream.redaction import redacted


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem, as fields that a program can use."""

    what: str
    """The problem in a few words, such as `no CRS`."""
    where: str = ""
    """The file, key, line, scene or cell it concerns."""
    expected: str = ""
    got: str = ""
    remedy: str = ""
    """What the user can do about it."""

    def __str__(self) -> str:
        """One line without secrets: `where: what: expected a, got b; remedy`."""
        line = f"{self.where}: {self.what}" if self.where else self.what
        facts = [f"expected {self.expected}" if self.expected else ""]
        facts.append(f"got {self.got}" if self.got else "")
        if details := ", ".join(fact for fact in facts if fact):
            line += f": {details}"
        return redacted(f"{line}; {self.remedy}" if self.remedy else line)


class QuakestreamError(Exception):
    """Base of all errors that are raised on purpose.

    The arguments are those of `Problem`. They are kept as `args`, so that an error survives
    pickling between workers.

    Args:
        what: the problem in a few words; required.
        where: the file, key, scene or cell it concerns.
        expected: what would have been right.
        got: what is there instead.
        remedy: what the user can do.
    """

    def __init__(
        self, what: str, where: str = "", expected: str = "", got: str = "", remedy: str = ""
    ) -> None:
        super().__init__(what)
        self.args = (what, where, expected, got, remedy)

    @classmethod
    def of(cls, problem: Problem) -> Self:
        """The error for one problem."""
        return cls(problem.what, problem.where, problem.expected, problem.got, problem.remedy)

    @property
    def problem(self) -> Problem:
        """The fields of this error."""
        return Problem(*self.args)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems in order; one for most errors."""
        return (self.problem,)

    @property
    def what(self) -> str:
        return self.problem.what

    @property
    def where(self) -> str:
        return self.problem.where

    @property
    def expected(self) -> str:
        return self.problem.expected

    @property
    def got(self) -> str:
        return self.problem.got

    @property
    def remedy(self) -> str:
        return self.problem.remedy

    def __str__(self) -> str:
        return "\n".join(str(problem) for problem in self.problems)


class RequestError(QuakestreamError, ValueError):
    """The request itself is wrong; nothing was started (exit code 2)."""


class ConfigError(RequestError):
    """A key, a value or a path of the run file. It may hold several problems."""

    @classmethod
    def of_all(cls, problems: Iterable[Problem]) -> Self:
        """One error for all problems of a file, of which there is at least one."""
        first, *others = problems
        error = cls.of(first)
        error.others = tuple(others)
        return error

    others: tuple[Problem, ...] = ()
    """Problems after the first."""

    @property
    def problems(self) -> tuple[Problem, ...]:
        return (self.problem, *self.others)


class AoiError(RequestError):
    """The area of interest is unreadable, empty or outside all imagery."""


class NoImageryError(AoiError):
    """No post-event scene shows the area of interest; a later search may find one."""


class NoPairError(RequestError):
    """No building has the images that the model needs; a later image may change that."""


class FootprintError(RequestError):
    """The footprint file is unreadable, empty or has no CRS."""


class NoFootprintError(FootprintError):
    """The footprint file can be read, and none of its footprints lies in the area of interest."""


class BundleError(RequestError):
    """The bundle is missing or is not a bundle."""


class DigestError(BundleError):
    """A file of a bundle differs from its digest in the manifest."""


class InputError(QuakestreamError, ValueError):
    """One input is bad. It is quarantined and the rest of the map is made."""


class SceneError(InputError):
    """A scene's header, CRS, bands or georeference cannot be used."""


class BandOrderError(SceneError):
    """Nothing tells which bands of a scene are red, green and blue; the request has to."""


class ReadError(SceneError, OSError):
    """Blocks of a scene cannot be read."""


class TileReadError(ReadError):
    """A tile of an acquisition cannot be opened or read there. `where` is the tile's id."""


class CatalogItemError(InputError):
    """One catalogue item cannot be used."""


class HazardError(InputError):
    """A ShakeMap, VS30 or proxy layer cannot be used."""


class ShapeError(QuakestreamError, ValueError):
    """Arrays contradict each other or their description."""


class EngineError(QuakestreamError, RuntimeError):
    """A runtime refuses a bundle or fails on a batch."""


class DeviceError(EngineError):
    """This machine lacks a device or an instruction set that a runtime needs."""


class NotBuiltError(EngineError):
    """No trusted engine was built for this device.

    A built engine is trusted where it is whole and only its owner can write."""


class StorageError(QuakestreamError, OSError):
    """Bytes cannot be read or written (exit code 3)."""


class LedgerError(StorageError):
    """Commits that a run needs are not what they claim to be."""

    keys: frozenset[str] = frozenset()
    """Their names under the run's output."""


class InUseError(StorageError):
    """Another run writes to the output (exit code 3)."""


class NothingReadError(QuakestreamError, OSError):
    """Footprints should have been judged, and none could be read: no map was made (exit code 3)."""


class ClusterError(QuakestreamError, ConnectionError):
    """There is no Ray cluster, it refuses this process, or it lost the job (exit code 3)."""


class AccountingError(QuakestreamError, RuntimeError):
    """Rows out do not equal footprints in."""


class MissingExtraError(QuakestreamError, ImportError):
    """An optional dependency is not installed; the remedy names the extra."""
