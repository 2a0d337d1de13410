"""A person at the registry page of the MLflow UI, in a real browser, and what the platform makes of it.

MLflow 3.17 writes the aliases and then shows "Cannot read properties of undefined (reading 'loadPage')" in the dialog:
its own page fails to refresh. A person reloads; so do we.
"""

import os
import shutil
import time
from dataclasses import replace

import pytest
from playwright.sync_api import sync_playwright

from benchmarks.faults import registry_world as world
from mlops.types import ModelRef, Role
from registry_hooks import aliases, apply
from registry_hooks.apply import Act

pytestmark = pytest.mark.e2e

MODEL = "by-hand"
PERSON, JOB = Act("a person", world.AT, split=0.5), Act("jobs.compare", world.AT, split=0.5)
LIMIT_S = 60.0  # far more than it takes; a busy machine is no failure


@pytest.fixture(scope="module")
def registry(platform, tmp_path_factory):
    """Five versions in the platform's own registry; v1 is champion, v2 won its comparison with it."""
    context, uri = platform
    place = world.Place(uri, context.settings.ledger, tmp_path_factory.mktemp("place"))
    world.found(place)
    opened = replace(context.registry, cache=context.settings.state / "bundles")
    world.add_model(opened, place, MODEL)
    apply.promote(opened, ModelRef(MODEL, 1), "first", PERSON, expected=None)
    apply.nominate(opened, ModelRef(MODEL, 2), JOB)
    apply.retire(opened, ModelRef(MODEL, 2), "promote", world.AT)
    return opened


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium")
    if found is None:
        why = "chromium was not found; install it to run what a person does in the MLflow UI"
        pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


class Registry:
    """The page of one registered model, as a person uses it."""

    def __init__(self, page, uri):
        self._page, self._uri = page, uri

    def alias(self, version, *, add=(), remove=()):
        """Open the dialog of one version's aliases, change them, save, see that the page shows it."""
        self._page.goto("about:blank")
        self._page.goto(f"{self._uri}/#/models/{MODEL}")
        row = self._page.get_by_role("row").filter(has=self._page.get_by_role("link", name=f"Version {version}"))
        row.locator('[data-component-id*="modelversiontablealiasescell"]').click()
        dialog = self._page.get_by_role("dialog")
        for name in remove:
            tag = dialog.locator(
                '[data-component-type="tag"], .du-bois-light-tag, .du-bois-light-select-selection-item'
            )
            tag.filter(has_text=name).locator("svg, button").last.click()
        for name in add:
            dialog.get_by_role("combobox").fill(name)
            self._page.keyboard.press("Enter")
        with self._page.expect_response(lambda answer: "registered-models/alias" in answer.url):
            dialog.get_by_role("button", name="Save aliases").click()

    def promote_model(self, version, name):
        """Press the blue button on the page of a version and copy it into a registered model of a new name."""
        self._page.goto("about:blank")
        self._page.goto(f"{self._uri}/#/models/{MODEL}/versions/{version}")
        self._page.get_by_role("button", name="Promote model").click()
        dialog = self._page.get_by_role("dialog").filter(has_text=f"Promote {MODEL} version")
        dialog.get_by_role("combobox").click()
        self._page.locator(".du-bois-light-select-item").filter(has_text="Create New Model").last.click()
        dialog.get_by_placeholder("Input a model name").fill(name)
        dialog.get_by_role("button", name="Promote", exact=True).click()

    def text(self, version):
        """What the page of a version says."""
        self._page.goto("about:blank")
        self._page.goto(f"{self._uri}/#/models/{MODEL}/versions/{version}")
        self._page.get_by_role("button", name="Promote model").wait_for()
        return self._page.locator("body").inner_text()

    def shown(self, version):
        """The aliases that the page shows beside a version."""
        self._page.goto("about:blank")
        self._page.goto(f"{self._uri}/#/models/{MODEL}")
        row = self._page.get_by_role("row").filter(has=self._page.get_by_role("link", name=f"Version {version}"))
        row.wait_for()
        return row.inner_text()


@pytest.fixture
def ui(platform, browser):
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    yield Registry(page, platform[1])
    page.close()


def _until(true):
    """Wait for it; the service hears of a change by a webhook."""
    deadline = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < deadline, "the platform did not answer to the hand"
        time.sleep(0.1)


def _told(registry, start):
    return [
        alert.title for alert in registry.ledger.alerts.newest() if alert.key.startswith(start) and alert.model == MODEL
    ]


def _now(registry):
    return aliases.read(registry.client, MODEL)


def test_a_champion_moved_in_the_ui_is_adopted_when_it_passes_the_guard(ui, registry):
    ui.alias(2, add=["champion"])

    _until(lambda: registry.ledger.registry.champion(MODEL) == 2)
    _until(lambda: _now(registry) == {"champion": 2, "previous_champion": 1})
    entry = registry.ledger.registry.promotions(MODEL)[-1]
    assert ("mlflow-ui", "promote", 1) == (entry.actor, entry.kind, entry.from_version)
    assert 1 == len(_told(registry, f"by-hand:{MODEL}:"))
    assert "previous_champion" in ui.shown(1)


def test_a_champion_moved_in_the_ui_without_evidence_is_undone(ui, registry):
    ui.alias(5, add=["champion"])

    _until(lambda: _told(registry, "by-hand-undone:v5"))
    _until(lambda: _now(registry)["champion"] == 2)
    assert "v5 was never compared with champion v2" in _told(registry, "by-hand-undone:v5")[0]
    assert 2 == registry.ledger.registry.champion(MODEL)
    assert "champion" in ui.shown(2)
    _until(lambda: "undone" in registry.client.get_model_version(MODEL, "5").tags)
    page = ui.text(5)
    assert "was never compared with champion v2" in page
    assert f"trader-mlops promote {MODEL} 5" in page


def test_a_copy_by_the_blue_button_breaks_nothing_and_is_told(ui, registry):
    before = _now(registry)
    ui.promote_model(2, "production")

    _until(lambda: registry.ledger.alerts.get("version-copied:production:v1"))
    alert = registry.ledger.alerts.get("version-copied:production:v1")
    assert f"{MODEL} v2 was copied to production v1" in alert.title
    _until(lambda: registry.client.get_model_version("production", "1").tags.get("status") == "copy")
    assert (before, 2) == (_now(registry), registry.ledger.registry.champion(MODEL))


def test_an_alias_deleted_in_the_ui_is_set_again(ui, registry):
    ui.alias(2, remove=["champion"])

    _until(lambda: _told(registry, "alias-deleted:champion"))
    _until(lambda: _now(registry).get("champion") == 2)


def test_a_challenger_named_in_the_ui_is_compared_from_then_on(ui, registry):
    ui.alias(3, add=["challenger"])

    _until(lambda: registry.ledger.registry.open_comparisons(MODEL, "compare"))
    lineup = aliases.lineup(registry, MODEL)
    assert {2: Role.CHAMPION, 1: Role.PREVIOUS, 3: Role.CHALLENGER} == lineup.roles
