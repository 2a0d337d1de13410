"""Evidently and we on the same data: where both measure the same thing the numbers agree; where they do not, it is said.

| | Evidently 0.7.23 | here |
|---|---|---|
| KS | scipy's two-sample p, exact up to 10,000 rows; the distance is not shown | distance exact; `p_iid` by Stephens, within 0.004 |
| Wasserstein, normed | by the reference's standard deviation | the same, by 200 bins: never more, some percent less at most |
| PSI, numbers | Sturges bins of equal width over both samples, empty ones raised to 1e-4 or less | deciles of the reference |
| PSI, categories | the values | the values and "never seen", shares raised to 1e-4 |
| Jensen-Shannon | the same bins, natural logarithm: at most 0.833 | deciles or values, base 2: at most 1 |

Evidently's p is of independent rows, so ours that decides is another one (`mlops.monitor.feature_drift`).
"""

import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from scipy.stats import ks_2samp

from jobs.reports import evidently
from mlops.monitor import feature_drift
from mlops.stats import jensen_shannon, psi_shares

pytestmark = pytest.mark.slow
PEER = """
import json, sys
from pathlib import Path
said = []
sys.addaudithook(lambda event, given: said.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
import pandas as pd
from evidently import DataDefinition, Dataset, Report
from evidently.metrics import ValueDrift
from jobs.reports import evidently as drift_report
folder = Path(sys.argv[1])
past, now = (pd.read_parquet(folder / f"{name}.parquet") for name in ("reference", "current"))
kinds = DataDefinition(numerical_columns=["same", "moved", "tails"], categorical_columns=["state"])
asked = [(c, m) for c in past for m in ("ks", "psi", "wasserstein", "jensenshannon")
         if c != "state" or m in ("psi", "jensenshannon")]
sides = [Dataset.from_pandas(frame, data_definition=kinds) for frame in (now, past)]
found = Report([ValueDrift(column=c, method=m) for c, m in asked]).run(*sides).dict()["metrics"]
drift_report.draw(folder)
values = {f"{c} {m}": float(f["value"]) for (c, m), f in zip(asked, found, strict=True)}
(folder / "found.json").write_text(json.dumps({"values": values, "network": said}))
"""


def _rows(n, seed, shift=0.0, tails=8, weights=(0.5, 0.3, 0.2)):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "same": rng.beta(2, 2, n),
            "moved": rng.beta(1.5 + shift, 1.5, n),
            "tails": rng.standard_t(tails, n),
            "state": rng.choice(3, n, p=weights),
        }
    )


PAST, NOW = _rows(10_000, 1), _rows(1000, 2, shift=0.3, tails=3, weights=(0.4, 0.3, 0.3))


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    """What Evidently found, in a process of its own; and the folder with the page that the job would draw."""
    folder = tmp_path_factory.mktemp("peer")
    for name, rows in (("reference", PAST), ("current", NOW)):
        rows.to_parquet(folder / f"{name}.parquet", index=False)
    environment = {k: v for k, v in os.environ.items() if "DO_NOT_TRACK" not in k} | evidently.QUIET
    subprocess.run([sys.executable, "-c", PEER, str(folder)], check=True, env=environment, timeout=300)
    return json.loads((folder / "found.json").read_text()), folder


@pytest.mark.parametrize("name", ["same", "moved", "tails"])
def test_the_ks_distance_is_scipys_and_the_textbooks_p_is_theirs(peer, name):
    values, exact = peer[0]["values"], ks_2samp(PAST[name], NOW[name])
    assert exact.pvalue == pytest.approx(values[f"{name} ks"], rel=1e-9)
    found = _measured(PAST, NOW, name)["ks"]
    assert exact.statistic == pytest.approx(found.value, abs=1e-12)
    assert values[f"{name} ks"] == pytest.approx(found.params["p_iid"], abs=0.004)


@pytest.mark.parametrize("name", ["same", "moved", "tails"])
def test_the_normed_wasserstein_distance_is_theirs_and_never_more(peer, name):
    theirs, found = peer[0]["values"][f"{name} wasserstein"], _measured(PAST, NOW, name)["wasserstein"].value
    assert found <= theirs + 1e-12
    assert theirs == pytest.approx(found, rel=0.06)


def test_psi_and_jensen_shannon_of_a_category_are_theirs(peer):
    values, found = peer[0]["values"], _measured(PAST, NOW, "state")
    assert values["state psi"] == pytest.approx(found["psi"].value, abs=1e-9)
    assert values["state jensenshannon"] == pytest.approx(found["jensen_shannon"].value * np.sqrt(np.log(2)), abs=1e-9)


@pytest.mark.parametrize("name", ["same", "moved"])
def test_on_their_bins_of_equal_width_so_are_those_of_a_number(peer, name):
    edges = np.histogram_bin_edges(np.concatenate([PAST[name], NOW[name]]), bins="sturges")
    p, q = (np.histogram(rows[name], edges)[0] / len(rows) for rows in (PAST, NOW))
    values = peer[0]["values"]
    assert min(p.min(), q.min()) >= 1e-4  # else an empty bin is raised to 1e-4 here and may be to 1e-10 there
    assert values[f"{name} psi"] == pytest.approx(float(psi_shares(p, q)), abs=1e-9)
    assert values[f"{name} jensenshannon"] == pytest.approx(float(jensen_shannon(p, q)) * np.sqrt(np.log(2)), abs=1e-9)


def test_on_deciles_a_psi_is_another_number_of_the_same_size(peer):
    theirs, found = peer[0]["values"]["moved psi"], _measured(PAST, NOW, "moved")["psi"].value
    assert theirs == pytest.approx(found, rel=0.3)


def test_the_page_is_drawn_and_nothing_is_told_to_anybody(peer):
    found, folder = peer
    page = (folder / evidently.NAME).read_text(encoding="utf-8")
    assert [] == found["network"]
    assert all(name in page for name in PAST.columns)
    assert len(page) > 1e6
    assert not [link for link in ('<script src="http', '<link href="http') if link in page]  # opens without a network


def _measured(past, now, name):
    """Our findings of one feature, a row a bar."""
    timed = [
        rows[[name]].assign(event_time=pd.date_range(start, periods=len(rows), freq="h", tz="UTC"))
        for rows, start in ((past, "2000-01-01"), (now, "2010-01-01"))
    ]
    return {f.name: f for f in feature_drift(*timed)}
