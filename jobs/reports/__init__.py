"""Pages and figures that jobs log as evidence."""
