"""What MLflow's server of a set-up asks of each request: an account, and of one that would make something, an admin's.

MLflow lets every account create experiments and registered models, whatever `default_permission` says, and gives its
maker MANAGE. So an account that may only read could take the name of a model before the platform does. This runs inside
MLflow's server (`authorization_function` of its basic-auth app).
"""

from __future__ import annotations

from flask import Response, request
from mlflow.server import auth
from werkzeug.datastructures import Authorization

MAKING = ("/mlflow/experiments/create", "/mlflow/registered-models/create")


def authorize() -> Authorization | Response:
    """The account of a request, or the refusal: 401 without one, 403 where a reader would create."""
    account = auth.authenticate_request_basic_auth()
    rule = request.url_rule.rule if request.url_rule is not None else request.path
    if isinstance(account, Response) or not rule.endswith(MAKING):
        return account
    return account if auth.store.get_user(str(account.username)).is_admin else auth.make_forbidden_response()
