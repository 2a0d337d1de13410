"""Heavy work as a list of pure tasks, given to one object: the same numbers with any number of workers.

A task is a function of its item and of what all share, and of nothing else: what is drawn at random is seeded by the
item. So where, when and beside what a task runs changes no number. joblib does the work here; a cluster is a setting of
`Compute`, not of who calls it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from mlops.errors import SettingsError

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Compute:
    """Where tasks run.

    Parameters
    ----------
    workers : int
        Processes (or threads) at once; 1 runs the tasks in this process, one after the other; -1 is one a core.

    Raises
    ------
    SettingsError
        `workers` is 0, or below -1.
    """

    workers: int = 1

    def __post_init__(self) -> None:
        if self.workers < 1 and self.workers != -1:
            raise SettingsError(f"workers must be at least 1, or -1, got {self.workers}. Write 1 for no other process.")

    def map(
        self, fn: Callable[..., Result], items: Iterable[Item], *, shared: tuple[Any, ...] = (), threads: bool = False
    ) -> list[Result]:
        """Results of `fn(item, *shared)`, in the order of the items.

        Memory is that of two tasks a worker and of all results: tasks are handed out as workers become free.

        Parameters
        ----------
        fn : callable
            Pure; a function of a module where other processes are to run it.
        items : iterable
            What tells the tasks apart, seeds included.
        shared : tuple
            What every task gets besides; large arrays reach other processes by a memory map, once.
        threads : bool
            The work holds no lock of Python's (it is compiled): threads of this process do, and nothing is copied.

        Raises
        ------
        Exception
            Of the first task that failed, of the same class, with a note that names the task.

        Examples
        --------
        >>> Compute().map(pow, [1, 2, 3], shared=(2,))
        [1, 4, 9]
        """
        tasks, run = list(enumerate(items)), partial(_run, fn, shared)
        workers = min(len(tasks), len(os.sched_getaffinity(0)) if self.workers == -1 else self.workers)
        if workers <= 1:
            return [run(index, item) for index, item in tasks]
        from joblib import Parallel, delayed  # a process that computes nothing heavy does without it

        pool = Parallel(n_jobs=workers, prefer="threads" if threads else "processes")
        return list(pool(delayed(run)(index, item) for index, item in tasks))


def _run(fn: Callable[..., Result], shared: tuple[Any, ...], index: int, item: Any) -> Result:
    """One task; its error says which one it was."""
    try:
        return fn(item, *shared)
    except Exception as error:  # whatever it is goes on as it is, with the name of the task
        error.add_note(f"in task {index} of {getattr(fn, '__qualname__', fn)}, item {str(item)[:200]}")
        raise


SERIAL = Compute()
