"""Every error quakestream raises on purpose.

    QuakestreamError
    ├── RequestError (ValueError)          the request is wrong: exit code 2
    │   ├── ConfigError                    run file: key, value, path
    │   ├── AoiError                       AOI unreadable or outside all imagery
    │   ├── FootprintError                 footprint file empty, unreadable, no CRS
    │   └── BundleError                    not a bundle, unknown name
    │       └── DigestError                a bundle's files are not what it says
    ├── InputError (ValueError)            one input is bad: quarantined, the map is made
    │   ├── SceneError                     header, CRS, bands, georeference
    │   │   └── ReadError (OSError)        blocks of a scene cannot be read
    │   ├── CatalogItemError               one STAC item
    │   └── HazardError                    a ShakeMap, VS30 or proxy layer
    ├── ShapeError (ValueError)            arrays do not describe what they claim
    ├── EngineError (RuntimeError)         a runtime refuses or fails
    │   ├── DeviceError                    it needs what this machine does not have
    │   └── NotBuiltError                  nothing was built for it here that can be trusted
    ├── StorageError (OSError)             bytes cannot be read or written: exit code 3
    │   └── storage.MissingObjectError (FileNotFoundError)   there is no such object
    ├── AccountingError (RuntimeError)     rows out ≠ footprints in: a bug, never hidden
    └── MissingExtraError (ImportError)    an optional dependency is not installed

An error carries fields, not a sentence: what is wrong, where, what was expected, what was
got, and what to do. The command line and the service format them; no code reads the text.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, in parts that a program can use."""

    what: str
    """The problem in a few words, such as `no CRS`."""
    where: str = ""
    """The file, key, line, scene or cell it concerns."""
    expected: str = ""
    got: str = ""
    remedy: str = ""
    """What the user can do about it."""

    def __str__(self) -> str:
        """One line: `where: what: expected a, got b; remedy`."""
        line = f"{self.where}: {self.what}" if self.where else self.what
        facts = [f"expected {self.expected}" if self.expected else ""]
        facts.append(f"got {self.got}" if self.got else "")
        if details := ", ".join(fact for fact in facts if fact):
            line += f": {details}"
        return f"{line}; {self.remedy}" if self.remedy else line


class QuakestreamError(Exception):
    """Base of everything raised on purpose.

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
        """Everything that is wrong, in order; one problem for most errors."""
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


class FootprintError(RequestError):
    """The footprint file is unreadable, empty or has no CRS."""


class BundleError(RequestError):
    """Not a bundle, or none of that name."""


class DigestError(BundleError):
    """A bundle's files are not the ones its manifest names."""


class InputError(QuakestreamError, ValueError):
    """One input is bad. It is quarantined and the rest of the map is made."""


class SceneError(InputError):
    """A scene's header, CRS, bands or georeference cannot be used."""


class ReadError(SceneError, OSError):
    """Blocks of a scene cannot be read."""


class CatalogItemError(InputError):
    """One catalogue item cannot be used."""


class HazardError(InputError):
    """A ShakeMap, VS30 or proxy layer cannot be used."""


class ShapeError(QuakestreamError, ValueError):
    """Arrays do not describe what they claim."""


class EngineError(QuakestreamError, RuntimeError):
    """A runtime refuses a bundle or fails on a batch."""


class DeviceError(EngineError):
    """A runtime needs a device or an instruction set this machine does not have."""


class NotBuiltError(EngineError):
    """No trusted engine was built for this device.

    A built engine is trusted where it is whole and only its owner can write."""


class StorageError(QuakestreamError, OSError):
    """Bytes cannot be read or written (exit code 3)."""


class AccountingError(QuakestreamError, RuntimeError):
    """Rows out do not equal footprints in."""


class MissingExtraError(QuakestreamError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
