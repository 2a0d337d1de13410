"""The learners. One file here and one line in the table adds one."""

from collections.abc import Mapping

from mlops.errors import SettingsError
from mlops.learn.gbm import GBM
from mlops.learn.learner import Learner

LEARNERS: Mapping[str, Learner] = {learner.name: learner for learner in (GBM,)}
DEFAULT = GBM.name


def libraries() -> list[str]:
    """What the models of any learner need to load, beside MLflow, NumPy and pandas."""
    return sorted({library for learner in LEARNERS.values() for library in learner.libraries})


def learner_of(name: str) -> Learner:
    """The learner of that name.

    Raises
    ------
    SettingsError
        The table has none.
    """
    if name not in LEARNERS:
        raise SettingsError(f"train.learner must be one of {', '.join(LEARNERS)}, got {name!r}. Check the name.")
    return LEARNERS[name]
