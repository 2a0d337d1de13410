"""The whole loop on real data, from an empty folder: `make demo`.

A real MLflow server and the platform's service on loopback; champions of both strategies trained and registered; real
history from 2007 on replayed through the paper bot with the shipped gates and schedule. Two things are arranged, and
said: the first volatility champion knows only 1992, so that there is something better to find; and in 2008 a person
forces a model through whose feed was broken, so that there is something to roll back.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.console import Console
from rich.table import Table

from jobs import promote, train
from jobs.command import evidence_link
from jobs.house import House, opened
from jobs.replay import Event, Replay
from jobs.servers import MlflowServer, PlatformService, secrets_of
from mlops.io import feed, logs
from mlops.learn import STRATEGIES
from mlops.settings import ServiceSettings, Settings
from mlops.types import ModelRef

START, END = datetime(2007, 1, 3, tzinfo=UTC), datetime(2008, 12, 31, tzinfo=UTC)
FORCED = datetime(2008, 7, 14, 12, tzinfo=UTC)
console = Console(width=max(100, min(160, Console().width)))
