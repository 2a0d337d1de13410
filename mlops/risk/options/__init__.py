"""Option prices, Greeks and the P&L of option books in scenarios."""
