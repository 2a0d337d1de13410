"""What a book loses in scenarios: historical, simulated, conditional, reverse."""
