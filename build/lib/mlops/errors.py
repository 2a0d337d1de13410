"""What this product raises on purpose.

MlopsError
├── DataError(ValueError)      the input breaks its contract
│   └── LeakError              something would see what was not yet known
├── RegistryError              the registry is not in the state that was expected
│   ├── AliasMoved             somebody else changed the champion first
│   └── BundleError            a model bundle is missing, altered or cannot be loaded
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


class SettingsError(MlopsError, ValueError):
    """A setting is missing or out of range."""
