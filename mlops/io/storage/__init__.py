"""How rows are stored: database, tables, checks, locks."""
