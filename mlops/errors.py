"""What this product raises on purpose.

MlopsError
├── DataError(ValueError)      the input breaks its contract
│   └── LeakError              something would see what was not yet known
├── RegistryError              the registry is not in the state that was expected
│   ├── AliasMoved             somebody else changed the champion first
│   └── BundleError            a model bundle is missing, altered or cannot be loaded
├── StorageError               the ledger cannot take or give rows now: nothing was stored, try again
│   ├── DiskFull               its disk is full
│   └── CorruptionError        what was read is not what was written: restore it
└── SettingsError(ValueError)  a setting is missing or out of range

Messages read `{thing} must {rule}, got {value}. {remedy}.`
"""


class MlopsError(Exception):
    """Base of everything this product raises on purpose."""


class DataError(MlopsError, ValueError):
    """The input breaks its contract."""


class LeakError(DataError):
    """A row, a feature or a split would see what was not yet known."""


class RegistryError(MlopsError):
    """The registry is not in the state that was expected."""


class AliasMoved(RegistryError):
    """Somebody else changed the champion first; read it again and decide anew."""


class BundleError(RegistryError):
    """A model bundle is missing, altered or cannot be loaded."""


class StorageError(MlopsError):
    """The ledger cannot take rows now; what was given was not stored."""


class DiskFull(StorageError):
    """The ledger's disk is full; what was given was not stored."""


class CorruptionError(StorageError):
    """What was read is not what was written: a disk or a memory cell changed it. Restore it from a backup."""


class SettingsError(MlopsError, ValueError):
    """A setting is missing or out of range."""
