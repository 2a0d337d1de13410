"""The ledger's schema, step by step. Each file is one alembic revision; a released one is never changed."""
