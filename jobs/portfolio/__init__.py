"""What all books hold, at which prices, and what became of it."""
