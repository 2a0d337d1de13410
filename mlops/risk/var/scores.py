"""Scores of VaR and ES forecasts: lower is better, and best in expectation for the true VaR and ES."""

from __future__ import annotations

import numpy as np

from mlops.errors import DataError
from mlops.risk.measures import Floats, Losses


def quantile_losses(returns: Floats, var: Floats, confidence: float) -> Floats:
    """Quantile loss of each bar, in the unit of the returns (Koenker and Bassett 1978).

    Examples
    --------
    >>> import numpy as np
    >>> quantile_losses(np.array([-0.03, 0.01]), np.array([0.02, 0.02]), 0.99).round(5).tolist()
    [0.0099, 0.0003]
    """
    share = 1.0 - confidence
    return np.asarray((share - (returns < -var)) * (returns + var))


def fz_losses(returns: Floats, losses: Losses, confidence: float) -> Floats:
    """Joint score of VaR and ES of each bar, homogeneous of degree zero (FZ0).

    No unit: measuring returns in per cent adds log(100) to every model's. Parameters are of shape (n,).

    Raises
    ------
    DataError
        An ES is not positive: the score does not exist there.

    References
    ----------
    Fissler and Ziegel (2016), Annals of Statistics 44; Patton, Ziegel and Chen (2019), J. Econometrics 211, equation 6.

    Examples
    --------
    >>> import numpy as np
    >>> losses = Losses(np.array([2.0, 2.0]), np.array([2.5, 2.5]))
    >>> fz_losses(np.array([-3.0, 1.0]), losses, 0.99).round(4).tolist()
    [40.7163, 0.7163]
    """
    var, es = losses.var, losses.es
    if not (es > 0).all():
        raise DataError(f"es must be positive to be scored, got {es.min():g}. Leave out bars without a position.")
    beyond = np.where(returns <= -var, -returns - var, 0.0)
    return np.asarray(beyond / ((1.0 - confidence) * es) + var / es + np.log(es) - 1.0)
