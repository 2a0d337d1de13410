"""Descriptions in MLflow, in Markdown, with links to filtered views: a page of MLflow tells where to look."""

from __future__ import annotations

from urllib.parse import quote

# One line each: MLflow shows the first one alone until somebody asks for more.
STRATEGY = (
    "Strategy {model}: [which version trades, and why](#/models/{name}) · [reigns and comparisons]({lines}), "
    "a step a look · [looks that acted]({acts}) · [looks by hand]({hand}) · [trainings]({trainings})"
)
BOOKS = (
    "What all books together may lose: [value at risk]({risk}), a step a night · [stress]({stress}), a step a week; "
    "`stress.html` is the newest page"
)


def of_run(number: str, run: str, uri: str = "") -> str:
    """Where a browser shows a run of experiment `number`: at the server `uri`, or as a link on one of its pages."""
    place = f"#/experiments/{number}/runs/{run}"
    return f"{uri}/{place}" if uri else place


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
