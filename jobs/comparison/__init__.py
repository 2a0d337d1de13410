"""What a comparison of challenger and champion stands on: its stored plan, the stage it is in."""
