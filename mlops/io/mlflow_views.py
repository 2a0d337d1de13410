"""Descriptions in MLflow, in Markdown, with links to filtered views: a page of MLflow tells where to look."""

from __future__ import annotations

from urllib.parse import quote

STRATEGY = """Everything about the strategy **{model}**. [Which version trades, and why](#/models/{name})

- [Reigns and comparisons]({lines}): a run each, a step a look, the newest verdict in the name
- [Looks that acted]({acts}): retraining, promotion, rollback, more or less of the units; each with its evidence
- [Looks by hand]({hand}): launched by a person with `mlflow run`
- [Trainings]({trainings}): a run a version, its trials beneath
"""
BOOKS = """What all books together may lose.

- [Value at risk]({risk}): one run a year, a step a night
- [Stress]({stress}): one run a year, a step a week; `stress.html` is the newest page
"""


def of_experiment(number: str, model: str, *, books: bool = False) -> str:
    """Description of an experiment: of a strategy, or of all `books` together."""

    def view(query: str) -> str:
        return f"#/experiments/{number}/runs?searchFilter={quote(query)}"

    if books:
        return BOOKS.format(risk=view("tags.job = 'risk'"), stress=view("tags.job = 'stress'"))
    return STRATEGY.format(
        model=model,
        name=quote(model),
        lines=view("tags.series LIKE '%'"),
        acts=view("tags.acts = 'true'"),
        hand=view("tags.mlflow.project.entryPoint LIKE '%'"),
        trainings=view("tags.job = 'train'"),
    )
