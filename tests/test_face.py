"""`__all__` says what is there, all of it, sorted."""

import importlib

import pytest


@pytest.mark.parametrize("name", ["mlops", "mlops.experiment", "mlops.learn", "mlops.monitor", "mlops.stats"])
def test_public_names_exist_and_are_sorted(name):
    module = importlib.import_module(name)

    assert sorted(module.__all__) == list(module.__all__)
    assert all(hasattr(module, public) for public in module.__all__)
