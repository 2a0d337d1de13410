"""What the documents name is there, and what is there is in the documents: alerts, commands, settings, links, snippets."""

import ast
import importlib.util
import re
import shlex
import tomllib
from datetime import UTC, datetime
from doctest import DocTestParser
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, SecretStr

from jobs import train
from jobs.cli.commands import COMMANDS, load
from jobs.context import opened
from jobs.doctor.command import CHECKS
from mlops.alerts import ALERTS, Closes
from mlops.io import bar_feed
from mlops.io.storage.database import revisions
from mlops.io.storage.schema import metadata
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import apply

ROOT = Path(__file__).parents[1]
DOCS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
for other in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
    DOCS[other] = (ROOT / other).read_text(encoding="utf-8")
FENCE = re.compile(r"^( *)```([a-z]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "sh", "bash")
TOPS = ("mlops", "models", "registry_hooks", "jobs", "tests", "benchmarks", "docs")


def fences(text, *languages):
    """Code blocks in these languages, without the indent that a list gives them."""
    found = [(m[2], re.sub(rf"^{m[1]}", "", m[3], flags=re.MULTILINE)) for m in FENCE.finditer(text)]
    return [code for language, code in found if language in languages]


def spans(text):
    """Inline code."""
    return re.findall(r"`([^`\n]+)`", FENCE.sub("", text))


def shell(text):
    """Every line that a reader might type, without its comment."""
    lines = (line for code in fences(text, *SHELL) for line in code.splitlines())
    return [*spans(text), *(re.split(r"(?:^|\s)#", line)[0] for line in lines)]


def table(text, first):
    """Rows of the tables whose first column is headed `first`; a cell is its text."""
    rows, inside = [], False
    for line in FENCE.sub("", text).splitlines():
        cells = [cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        inside = bool(cells) and (inside or cells[0] == first)
        if inside and cells[0] != first and set(cells[0]) - set("-: "):
            rows.append(cells)
    return rows


def plain(cell):
    return cell.strip("`")


def same(there, documented, where):
    """Both hold the same; the message names what does not fit."""
    assert not (missing := sorted(there - documented)), f"{where} lacks {missing}"
    assert not (invented := sorted(documented - there)), f"{where} has {invented}, which is not there"


# --- alerts ---------------------------------------------------------------------------------------------------------


def rows_of_the_runbook():
    """The row of each key."""
    return {key: row for row in table(DOCS["docs/runbook.md"], "alert key") for key in re.findall(r"`([^`]+)`", row[0])}


def test_every_kind_of_alert_has_a_row_in_the_runbook_and_every_row_a_kind():
    same({kind.key for kind in ALERTS.values()}, rows_of_the_runbook().keys(), "docs/runbook.md")


@pytest.mark.parametrize("kind", ALERTS.values(), ids=lambda kind: kind.name)
def test_a_row_of_the_runbook_says_what_the_table_does(kind):
    row = rows_of_the_runbook()[kind.key]
    closes_itself = kind.closes in (Closes.WITH_FACT, Closes.RAISED_AGAIN)

    same({priority.value for priority in kind.priorities}, {*row[1].split(", ")}, f"docs/runbook.md, {kind.key}")
    assert closes_itself == ("loses itself" in row[2]), "Closes itself, or it does not"
    assert kind.section in anchors(DOCS["docs/runbook.md"])


@pytest.mark.parametrize("row", table(DOCS["docs/runbook.md"], "alert key"), ids=lambda row: plain(row[0]))
def test_a_row_of_the_runbook_says_all_that_a_person_needs(row):
    assert 5 == len(row), "key, priority, what it means, look at, do"
    assert all(row)


# --- commands -------------------------------------------------------------------------------------------------------


def commands():
    """(document, words after `trader-mlops`) wherever one is named."""
    for name, text in DOCS.items():
        for line in shell(text):
            for tail in re.findall(r"(?:^|[\s/(])trader-mlops ([a-z][^|;&#→)]*)", line):
                yield pytest.param(name, tail.strip(), id=f"{name}: {tail.strip()[:60]}")


@pytest.mark.parametrize(("name", "tail"), [*commands()])
def test_a_command_that_is_named_exists_and_takes_its_options(name, tail):
    first, *rest = shlex.split(tail.replace("[", "").replace("]", ""))
    assert first in COMMANDS, f"{name}: trader-mlops {tail}: there is no {first}"
    command = load(first)
    if rest and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"{name}: trader-mlops {tail}: there is no {rest[0]}"
        command = command.commands[rest[0]]
    options = {option for parameter in command.params for option in parameter.opts}
    for word in rest:
        assert not word.startswith("--") or word.partition("=")[0] in options, f"{name}: {tail}: there is no {word}"


@pytest.mark.parametrize("top", TOPS[:4])
def test_a_command_that_a_message_names_exists(top):
    for path in (ROOT / top).rglob("*.py"):
        for first, second in re.findall(r"`trader-mlops ([a-z-]+)(?: ([a-z-]+))?", path.read_text(encoding="utf-8")):
            assert first in COMMANDS, f"{path.name}: trader-mlops {first}"
            assert second in ("", *getattr(load(first), "commands", {second})), f"{path.name}: {first} {second}"


def test_every_command_is_in_some_document():
    named = {tuple(p.values[1].split()[:2]) for p in commands()}
    for name in COMMANDS:
        for sub in getattr(load(name), "commands", {None: None}):
            listed = any(name == first and sub in (None, *rest) for first, *rest in named)
            text = "\n".join(DOCS.values())
            assert listed or re.search(rf"`trader-mlops {name} [^\n]*`{sub}`", text), f"trader-mlops {name} {sub or ''}"


def test_every_make_target_and_variable_that_is_named_exists():
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    known = set(re.findall(r"\$\(([A-Z]+)\)|ifdef ([A-Z]+)|or \$\(([A-Z]+)\)|if \$\(([A-Z]+)\)", makefile))
    variables = {one for group in known for one in group if one}
    for name, text in DOCS.items():
        for line in shell(text):
            for words in re.findall(r"(?:^|[\s;&(])make((?: [a-z]+| [A-Z]+=\S+)+)", line):
                for word in words.split():
                    variable, is_one, _ = word.partition("=")
                    assert variable in (variables if is_one else targets), f"{name}: make has no {word}: {line}"


def test_every_target_of_the_makefile_is_in_some_document():
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    words = (w for text in DOCS.values() for line in shell(text) for w in re.findall(r"make((?: [a-z]+)+)", line))
    unnamed = (
        {*targets} - {"quick", "lint", "types", "format", "clean"} - {word for some in words for word in some.split()}
    )

    assert not unnamed, f"no document names make {sorted(unnamed)}"


def test_every_module_that_is_run_exists():
    for name, text in DOCS.items():
        for module in re.findall(r"python -m ((?:jobs|benchmarks|registry_hooks|mlops)(?:\.[a-z_]+)*)", text):
            assert importlib.util.find_spec(module), f"{name}: there is no {module}"


def test_every_entry_point_is_in_the_readme_and_every_row_is_an_entry_point():
    entries = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]

    same(set(entries), {plain(row[0]) for row in table(DOCS["README.md"], "entry point")}, "README.md, entry points")


def test_every_check_of_the_doctor_is_explained_and_found_by_its_symptom():
    known = {"settings", *CHECKS}
    explained = {name for row in table(DOCS["docs/operations.md"], "check") for name in row[0].split(", ")}
    by_symptom = {c for row in table(DOCS["docs/runbook.md"], "symptom") for c in re.findall(r"`([^`]+)`", row[1])}

    same(known, explained, "docs/operations.md, Doctor")
    same(known, by_symptom, "docs/runbook.md, symptoms")


# --- settings -------------------------------------------------------------------------------------------------------


def settings(kind=Settings, path=(), *, listed=False):
    """(name, variable, default) of every setting, as docs/settings.md has them.

    A setting within a list has no variable of its own; a secret or a text that is empty by default shows nothing.
    """
    for name, field in kind.model_fields.items():
        inner = field.annotation
        within = [*getattr(inner, "__args__", ()), inner][0]
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from settings(inner, (*path, name), listed=listed)
            continue
        variable = "" if listed else "MLOPS_" + "__".join((*path, name)).upper()
        yield ".".join((*path, name)), variable, "(needed)" if field.is_required() else shown(field.default)
        if isinstance(within, type) and issubclass(within, BaseModel):
            yield from settings(within, (*path, f"{name}[]"), listed=True)


def shown(value):
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, tuple):
        return ", ".join(getattr(one, "measure", None) or one for one in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def test_every_setting_is_documented_with_its_variable_and_its_default():
    rows = {tuple(plain(cell) for cell in row[:3]) for row in table(DOCS["docs/settings.md"], "setting")}

    same(set(settings()), rows, "docs/settings.md")


@pytest.mark.parametrize("row", table(DOCS["docs/settings.md"], "setting"), ids=lambda row: plain(row[0]))
def test_a_setting_has_a_meaning(row):
    assert 4 == len(row)
    assert row[3].strip()


def test_every_variable_that_is_named_is_a_setting():
    known = {variable for _, variable, _ in settings()}
    for name, text in DOCS.items():
        for variable in re.findall(r"\bMLOPS_[A-Z][A-Z_]*[A-Z]\b", text):
            assert variable in known, f"{name}: there is no setting behind {variable}"


@pytest.mark.parametrize(("name", "code"), [(n, code) for n, text in DOCS.items() for code in fences(text, "toml")])
def test_a_configuration_that_is_shown_is_valid(name, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Settings(**tomllib.loads(code))


# --- links, paths, tables -------------------------------------------------------------------------------------------


def anchors(text):
    """As GitHub makes them of headings."""
    heads = re.findall(r"^#+ +(.*)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.strip().lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("name", DOCS)
def test_every_link_leads_somewhere(name):
    for target in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", DOCS[name])):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert place.exists(), f"{name}: {target}: there is no such file"
        if anchor:
            assert anchor in anchors(place.read_text(encoding="utf-8")), f"{name}: {target}: there is no such heading"


@pytest.mark.parametrize("name", DOCS)
def test_every_file_that_is_named_exists(name):
    for path in spans(DOCS[name]):
        if re.fullmatch(rf"(?:{'|'.join(TOPS)})/[\w./-]*", path):
            assert (ROOT / path).exists(), f"{name}: there is no {path}"


def test_the_readme_leads_to_every_document():
    linked = set(re.findall(r"\]\((docs/[\w-]+\.md)", DOCS["README.md"]))
    unlinked = {name for name in DOCS if name.startswith("docs/")} - linked

    assert not unlinked, f"README.md does not lead to {sorted(unlinked)}"


def test_the_tables_of_the_ledger_are_documented_as_they_are():
    rows = {plain(row[0]): row[4] for row in table(DOCS["docs/schema.md"], "table")}
    summed = {t.name for t in metadata.tables.values() if "checksum" in t.c}

    same(set(metadata.tables), set(rows), "docs/schema.md")
    same(summed, {name for name, checksum in rows.items() if checksum.startswith("row")}, "docs/schema.md, checksum")
    assert f"Schema {int(revisions()[1].get_current_head())}" in DOCS["docs/schema.md"]


# --- snippets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DOCS)
def test_python_that_is_shown_is_python_and_imports_what_is_there(name):
    for code in fences(DOCS[name], "python"):
        examples = DocTestParser().get_examples(code)  # of what is shown as a session
        for node in ast.walk(ast.parse("".join(one.source for one in examples) or code)):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in TOPS:
                module = importlib.import_module(node.module)
                for alias in node.names:
                    files = [Path(place) / f"{alias.name}.py" for place in getattr(module, "__path__", ())]
                    there = hasattr(module, alias.name) or any(file.exists() for file in files)
                    assert there, f"{name}: {node.module} has no {alias.name}"


@pytest.fixture(scope="module")
def set_up(tmp_path_factory):
    """A set-up with a champion of `volatility`."""
    state = tmp_path_factory.mktemp("docs") / "live"
    small = TrainSettings(trials=1, folds=2, min_bars=50)
    bars = bar_feed.load_bars(
        "sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=datetime(2006, 1, 1, tzinfo=UTC)
    ).frame
    bars, at = bars[bars.symbol.isin(["AAPL", "GE"])], datetime(2006, 1, 1, tzinfo=UTC)
    with opened(Settings(state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=small)) as context:
        ref = train.train(context, STRATEGIES["volatility"], bars, as_of=at, start=None)
        apply.promote(
            context.registry, ModelRef(ref.name, ref.version), "first", context.act("test", at), expected=None
        )
    return state


@pytest.mark.parametrize("name", ["docs/bot.md"])
def test_snippets_run_one_after_the_other(name, set_up, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_STATE", str(set_up))
    monkeypatch.setenv("MLOPS_TRACKING_URI", f"sqlite:///{set_up}/mlflow.db")
    names, blocks = {}, fences(DOCS[name], "python")
    assert blocks
    for code in blocks:
        exec(compile(code, name, "exec"), names)


LIBRARY = {  # no job calls them: they are for programs of one's own, with an example in their guide
    "mlops.risk.correlation.rolling": "docs/correlation.md",
    "mlops.risk.stress.views": "docs/stress.md",
    "mlops.risk.var.revaluation": "docs/var.md",
}
STARTED = {"jobs.cli.main", "jobs.serve", "jobs.up", "jobs.worker", "registry_hooks.mlflow_auth"}  # by name
STARTED |= {module.partition(":")[0] for module, _ in COMMANDS.values()}
STARTED |= {*re.findall(r"python -m ([a-z_.]+)", (ROOT / "MLproject").read_text() + (ROOT / "Makefile").read_text())}


@pytest.mark.parametrize("module", LIBRARY)
def test_the_example_of_what_no_job_calls_runs(module, capsys):
    examples = [code for code in fences(DOCS[LIBRARY[module]], "python") if f"from {module} import" in code]
    assert examples
    for code in examples:
        exec(compile(code, LIBRARY[module], "exec"), {})
    assert capsys.readouterr().out


def test_every_module_is_called_started_or_documented_as_library():
    paths = [path for top in TOPS[:4] for path in (ROOT / top).rglob("*.py")]
    imported, loaded = set(), ("models.", "mlops.migrations.")
    for node in (node for path in paths for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))):
        if isinstance(node, ast.ImportFrom):
            imported |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths if path.stem != "__init__"}

    same({name for name in modules - imported - STARTED if not name.startswith(loaded)}, set(LIBRARY), "LIBRARY")
