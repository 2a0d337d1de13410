"""What the live page shows and risk limits are held against, every second."""
