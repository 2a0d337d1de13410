"""Input and output: every read, write, socket and file of the platform."""
