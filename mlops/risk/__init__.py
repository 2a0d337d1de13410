"""Risk: what the book may lose, how well that is known, and where it comes from. Pure: no clock, no files.

Losses are positive and fractions of equity unless a name says otherwise; `confidence=0.99`, horizons in bars.
"""
