"""The back door: the only code that changes the registry, and the client that the bot embeds."""

import mlops.errors  # noqa: F401 - its package finds modules by their former names
