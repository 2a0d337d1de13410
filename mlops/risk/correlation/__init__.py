"""How units and books move together, and position sizes that follow from it."""
