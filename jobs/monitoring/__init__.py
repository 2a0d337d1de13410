"""What the weekly look at a champion stands on."""
