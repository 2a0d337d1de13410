"""Value at risk and expected shortfall: models, selection, backtests."""
