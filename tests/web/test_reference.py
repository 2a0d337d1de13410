"""/docs without a script and without anything from elsewhere."""

import re

import pytest


def test_the_reference_names_every_path_and_loads_nothing_from_elsewhere(lone):
    page = lone.get("/docs")

    assert 200 == page.status_code
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "<script" not in page.text
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page.text)
    paths = lone.get("/openapi.json").json()["paths"]
    assert len(paths) > 8
    assert not [path for path in paths if f" {path}</code>" not in page.text]


def test_there_is_no_other_reference(lone):
    assert [404, 404] == [lone.get(path).status_code for path in ("/redoc", "/docs/oauth2-redirect")]


@pytest.mark.parametrize("limit", ["1_0", " 10", "10 ", "%D9%A1", "1e1", "+1", "1.0", "true", ""])
def test_a_number_in_a_query_is_plain_digits(lone, limit):
    assert 422 == lone.get(f"/v1/rejections?limit={limit.replace('+', '%2B')}").status_code
    assert 200 == lone.get("/v1/rejections?limit=10").status_code
