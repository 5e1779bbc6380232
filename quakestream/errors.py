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

A message says what, where, expected, got, what to do, in one line. Arguments
stay positional so that errors survive pickling between workers.
"""


class QuakestreamError(Exception):
    """Base of everything raised on purpose."""


class RequestError(QuakestreamError, ValueError):
    """The request itself is wrong; nothing was started (exit code 2)."""


class ConfigError(RequestError):
    """A key, a value or a path of the run file."""


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
    """No engine was built for this device and kept whole where nobody else may write."""


class StorageError(QuakestreamError, OSError):
    """Bytes cannot be read or written (exit code 3)."""


class AccountingError(QuakestreamError, RuntimeError):
    """Rows out do not equal footprints in."""


class MissingExtraError(QuakestreamError, ImportError):
    """An optional dependency is not installed; the message names the extra."""
