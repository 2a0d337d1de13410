"""Accounts that may write in MLflow what is the platform's: those of MLflow's basic-auth app beside our own.

An account owns what it makes. One that made an experiment or a registered model of a name that the platform uses may
move its aliases, change its runs and delete it, whatever else it may do.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from mlflow import MlflowClient, MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from mlops.errors import RegistryError

USERS, CURRENT = "/api/2.0/mlflow/users/list", "/api/2.0/mlflow/users/current"
GRANTS, REVOKE = "/api/3.0/mlflow/users/permissions/list", "/api/3.0/mlflow/users/permissions/revoke"
HARMLESS = frozenset({"READ", "DENY", "NO_PERMISSIONS"})
NAMED = ("registered_model", "prompt")  # by name; a prompt takes the name of a model
PARTS = ("experiment", *NAMED, "workspace", "run", "logged_model", "registered_model_version", "prompt_version")
OWN_ROLE = "__user_"  # MLflow's name of the role that holds what an account itself was granted


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of an account to more than reading. `resource`: id of an experiment, name of a model, or `*`: all.

    `revocable`: it is of this account and this resource alone, as MLflow gives it to who makes something.
    """

    account: str
    permission: str
    kind: str
    resource: str
    revocable: bool

    def __str__(self) -> str:
        thing = f"all {self.kind}s" if self.resource == "*" else f"{self.kind} {self.resource}"
        return f"{self.permission} on {thing}"


def has_accounts(client: MlflowClient) -> bool:
    """Whether MLflow asks who calls; what has no server or no accounts is written by whoever reaches it."""
    return _server(client) and _asked(client, CURRENT).status_code != requests.codes.not_found


def excess(client: MlflowClient, names: Collection[str], writers: Collection[str] = ()) -> list[Grant]:
    """Rights of accounts, other than our own and `writers`, to more than reading experiments and models of these names.

    Empty where MLflow has no accounts: ask `has_accounts`.

    Raises
    ------
    RegistryError
        MLflow does not tell its accounts to ours.
    """
    if not has_accounts(client):
        return []
    ours = {str(_answer(client, CURRENT)["user"]["username"]), *writers}
    others = [user for user in _answer(client, USERS)["users"] if user["username"] not in ours]
    if not others:
        return []
    resources = {("experiment", str(known.experiment_id)) for name in names if (known := _experiment(client, name))}
    resources |= {(kind, name) for kind in NAMED for name in names}
    return [grant for user in others for grant in _of(client, user, resources)]


def revoke(client: MlflowClient, grants: Sequence[Grant]) -> list[Grant]:
    """Take back what may be; what is left: rights that a person gave by a role, for everything, or as an admin's."""
    left = []
    for grant in grants:
        if not grant.revocable:
            left.append(grant)
            continue
        body = {"username": grant.account, "resource_type": grant.kind, "resource_id": grant.resource}
        _answer(client, REVOKE, "POST", json=body)
    return left


def _of(client: MlflowClient, user: dict[str, Any], resources: Collection[tuple[str, str]]) -> Iterator[Grant]:
    account = str(user["username"])
    rights = _answer(client, GRANTS, params={"username": account})
    if rights["is_admin"]:
        yield Grant(account, "MANAGE", "thing", "*", revocable=False)
    for row in rights["permissions"]:
        kind, resource, permission = row["resource_type"], row["resource_pattern"], row["permission"]
        everything = resource == "*" and kind in PARTS
        if permission not in HARMLESS and (everything or (kind, resource) in resources):
            alone = not everything and str(row["role_name"]).startswith(OWN_ROLE)
            yield Grant(account, permission, kind, resource, revocable=alone)


def _experiment(client: MlflowClient, name: str) -> Any:
    return client.get_experiment_by_name(name)


def _server(client: MlflowClient) -> bool:
    return urlsplit(client.tracking_uri).scheme in ("http", "https")


def _asked(client: MlflowClient, path: str, method: str = "GET", **body: Any) -> requests.Response:
    credentials = get_default_host_creds(client.tracking_uri)  # type: ignore[no-untyped-call]
    answer: requests.Response = http_request(  # type: ignore[no-untyped-call]
        credentials, path, method, raise_on_status=False, **body
    )
    return answer


def _answer(client: MlflowClient, path: str, method: str = "GET", **body: Any) -> dict[str, Any]:
    answer = _asked(client, path, method, **body)
    if answer.status_code in (requests.codes.unauthorized, requests.codes.forbidden):
        rule, got = "account of the platform must be an admin of MLflow", f"one that is refused ({answer.status_code})"
        raise RegistryError(f"{rule}, got {got}. Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.")
    if answer.status_code != requests.codes.ok:
        raise MlflowException(f"{path} answers {answer.status_code}: {answer.text[:200]}")
    content: dict[str, Any] = answer.json()
    return content
