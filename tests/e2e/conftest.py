"""A real MLflow server, for the tests that need the REST side of it (webhooks above all)."""

import pytest

from jobs.servers import free_port, mlflow_server


@pytest.fixture(scope="session")
def mlflow_uri(tmp_path_factory):
    with mlflow_server(tmp_path_factory.mktemp("mlflow"), free_port()) as uri:
        yield uri
