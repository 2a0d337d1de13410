"""Models-from-code: each script is logged as its file and travels inside its bundle. Nothing here is ever pickled."""
