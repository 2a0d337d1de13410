"""Which models trade, who challenges them, and what was decided last."""

from __future__ import annotations

from mlops.web.cards import Card, Page

MODELS = Card(
    "models", "models", "Champions and challengers", "models", empty="No model has a champion yet.", wide=True
)

PAGE = Page("Models", top=(), cards=(MODELS,), rail=(Card("rail", "alerts", "Alerts", "alerts", "No open alert."),))
