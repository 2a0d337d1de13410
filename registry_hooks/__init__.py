"""The back door: the only code that changes the registry, and the client that the bot embeds."""
