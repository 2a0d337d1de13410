"""Several bots of one process load different models at the same time."""

import threading

from mlops.types import ModelRef
from registry_hooks import apply


def test_models_that_are_loaded_at_once_are_not_mixed_up(live, add_trap):
    trap, found, start = add_trap("slow"), {}, threading.Barrier(2)

    def load(version):
        start.wait()
        for _ in range(4):
            one = apply.prove_loadable(live, ModelRef("volatility", version))
            found.setdefault(version, set()).add(type(one.model.unwrap_python_model()).__name__)

    threads = [threading.Thread(target=load, args=(version,)) for version in (1, trap)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert {1: {"GradientBoosting"}, trap: {"Trap"}} == found
