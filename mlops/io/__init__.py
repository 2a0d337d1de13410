"""The walls: every read, write, socket and file of the house."""
