import doctest
from pathlib import Path

import mlops.stats

PAGE = Path(__file__).parents[2] / "docs" / "statistics.md"


def test_the_example_of_the_page_runs_as_printed():
    found = doctest.testfile(str(PAGE), module_relative=False)
    assert (0, True) == (found.failed, found.attempted > 10)


def test_the_page_names_no_function_that_is_not_there():
    words = {word.split("(")[0] for word in PAGE.read_text(encoding="utf-8").split("`")[1::2]}
    known = set(mlops.stats.__all__)
    fields = {
        "statistic",
        "p_value",
        "effect",
        "n",
        "n_needed",
        "note",
        "value",
        "low",
        "high",
        "rng",
        "percentile",
        "bca",
        "e_value",
        "margin",
        "min_n",
        "tried",
    }
    elsewhere = {"mlops.stats", "mlops.monitor", "arch", "DataError", "_power", "t_", "shares_", "mcnemar_"}
    elsewhere |= {"mann_whitney_", "tests/golden"}
    assert {w for w in words if w.isidentifier()} <= known | fields | elsewhere
