"""What the accounts behind books are worth, and the highest that they were."""
