"""What the documents name is there, and what is there is in the documents: alerts, commands, settings, links, snippets."""

import ast
import importlib.util
import re
import shlex
import tomllib
from collections import defaultdict
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
from mlops.io import bar_feed
from mlops.io.storage.database import revisions
from mlops.io.storage.schema import metadata
from mlops.learn import STRATEGIES
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef, Priority
from registry_hooks import apply

ROOT = Path(__file__).parents[1]
DOCS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("docs/*.md"))}
for other in ("README.md", "CONTRIBUTING.md", "benchmarks/README.md"):
    DOCS[other] = (ROOT / other).read_text(encoding="utf-8")
FENCE = re.compile(r"^( *)```([a-z]*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
SHELL = ("", "console", "sh", "bash")
TOPS = ("mlops", "models", "registry_hooks", "jobs", "tests", "benchmarks", "docs")
PLACE = "<...>"  # what a key or a path says of a thing, in place of its name


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


class Needs(Exception):
    """The text depends on a parameter: look at who calls the function."""

    def __init__(self, function):
        self.function = function


class Module:
    """The alerts that a file raises, as far as its source says it: keys with their leading constants, and priorities."""

    def __init__(self, path):
        self.path, self.tree = path, ast.parse(path.read_text(encoding="utf-8"))
        self.within = {}  # node -> function around it
        self._descend(self.tree, None)
        self.constants = {
            node.targets[0].id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }

    def raised(self):
        """(key, priorities) of each alert; a key that cannot be read fails the test."""
        for call in self._calls("Alert"):
            key, priority = [*call.args, *(k.value for k in call.keywords)][:2]
            if isinstance(key, ast.Subscript):
                continue  # an alert that is read back
            found = self._readings((key, priority), self.within[call], {})
            assert found, f"{self.path}:{call.lineno}: nobody calls what raises this alert"
            for text, priorities in found:
                assert text.partition(PLACE)[0], f"{self.path}:{call.lineno}: a key must begin with what it is about"
                yield from ((one, priorities.split("|")) for one in self._kinds(text))

    def _kinds(self, text):
        """A key whose kind is a variable: the module names the kinds in a tuple."""
        lead = text.partition(PLACE)[0]
        if ":" in lead:
            return [text]
        tuples = [
            [getattr(e, "value", "") for e in v.elts] for v in self.constants.values() if isinstance(v, ast.Tuple)
        ]
        kinds = [kind for one in tuples for kind in one if all(str(k).startswith(lead) for k in one)]
        assert kinds, f"{self.path}: kinds of alerts {lead}... must be in a tuple of the module"
        return [kind + PLACE for kind in kinds]

    def _descend(self, node, function):
        for child in ast.iter_child_nodes(node):
            self.within[child] = function
            self._descend(child, child if isinstance(child, ast.FunctionDef) else function)

    def _calls(self, name):
        calls = [node for node in ast.walk(self.tree) if isinstance(node, ast.Call)]
        return [c for c in calls if name in (getattr(c.func, "attr", ""), getattr(c.func, "id", ""))]

    def _readings(self, expressions, function, known):
        try:
            return [tuple(self._text(e, function, known) for e in expressions)]
        except Needs as needs:
            names = [a.arg for a in needs.function.args.args if a.arg not in ("self", "cls")]
            defaults = dict(zip(reversed(names), reversed(needs.function.args.defaults), strict=False))
            found = []
            for call in self._calls(needs.function.name):
                given = defaults | dict(zip(names, call.args, strict=False)) | {k.arg: k.value for k in call.keywords}
                bound = {(needs.function, name): (value, self.within[call]) for name, value in given.items()}
                found += self._readings(expressions, function, known | bound)
            return found

    def _text(self, node, function, known):
        """A constant as it is, everything else as PLACE; both branches of a choice with `|` in between."""
        match node:
            case ast.Constant(value=str(value)):
                return value
            case ast.JoinedStr(values=parts):
                return re.sub(rf"({PLACE})+", PLACE, "".join(self._text(part, function, known) for part in parts))
            case ast.FormattedValue(value=ast.Name(id=name)) if name in self.constants:
                return self._text(self.constants[name], None, {})
            case ast.IfExp(body=one, orelse=other):
                return f"{self._text(one, function, known)}|{self._text(other, function, known)}"
            case ast.Attribute(value=ast.Name(id="Priority"), attr=name):
                return name.lower()
            case ast.Call(func=ast.Attribute(attr="join"), args=[ast.GeneratorExp(generators=[only])]):
                return f"{self._text(only.iter.elts[0], function, known)}:{PLACE}"
            case ast.Name(id=name) if function is not None:
                return self._variable(name, function, known)
        return PLACE

    def _variable(self, name, function, known):
        if name in (values := _values(function)):
            return self._text(values[name], function, known)
        if name not in {a.arg for a in function.args.args}:
            return PLACE
        if (function, name) not in known:
            raise Needs(function)
        return self._text(*known[function, name], known)


def _values(function):
    """What a function's variables are given; the key of a dictionary that is made and walked through there, too."""
    found = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                pairs = zip(*(e.elts if isinstance(e, ast.Tuple) else [e] for e in (target, node.value)), strict=False)
                found |= {one.id: value for one, value in pairs if isinstance(one, ast.Name)}
    for node in (n for n in ast.walk(function) if isinstance(n, ast.For) and isinstance(n.target, ast.Tuple)):
        walked = found.get(ast.unparse(node.iter).removesuffix(".items()"))
        if isinstance(walked, ast.DictComp):
            found[node.target.elts[0].id] = walked.key
    return found


@pytest.fixture(scope="module")
def raised():
    """What an alert's key begins with -> the priorities that it is raised with."""
    found = defaultdict(set)
    for top in ("mlops", "registry_hooks", "jobs", "models"):
        for path in sorted((ROOT / top).rglob("*.py")):
            for key, priorities in Module(path).raised():
                found[key.partition(PLACE)[0]].update(priorities)
    return dict(found)


def rows_of_the_runbook():
    """The same, as the runbook has it."""
    found = defaultdict(set)
    for key, priority, *_ in table(DOCS["docs/runbook.md"], "alert key"):
        found[plain(key).partition("<")[0]].update(re.findall(r"[a-z]+", priority))
    return dict(found)


def test_keys_are_read_in_all_the_ways_in_which_they_are_written(tmp_path):
    (tmp_path / "some.py").write_text(
        """
ABOUT = "disk:"
KINDS = ("run_dead:", "run_parked:")
def plain(x): ledger.alerts.add(Alert(f"{ABOUT}{x}", Priority.LOW, "", "", x))
def pair(x):
    key, title = f"pair:{x}:{x}", "title"
    return Alert(key, Priority.HIGH if x else Priority.LOW, "", title, x)
def walk(runs):
    wrong = {f"run_{run.state}:{run.key}": run for run in runs}
    for key, run in wrong.items(): Alert(key, Priority.HIGH, "", "", run)
def tell(what, x, priority=Priority.HIGH):
    key = ":".join(part for part in (what, x) if part)
    Alert(key, priority, "", "", x)
def through(what, x): tell(what, x, Priority.CRITICAL)
def told(x):
    tell("moved", x)
    what = f"lost:v{x}"
    through(what, x)
"""
    )

    assert {
        ("disk:<...>", ("low",)),
        ("pair:<...>:<...>", ("high", "low")),
        ("run_dead:<...>", ("high",)),
        ("run_parked:<...>", ("high",)),
        ("moved:<...>", ("high",)),
        ("lost:v<...>:<...>", ("critical",)),
    } == {(key, tuple(priorities)) for key, priorities in Module(tmp_path / "some.py").raised()}


def test_every_alert_has_a_row_in_the_runbook_and_every_row_an_alert(raised):
    same(raised.keys(), rows_of_the_runbook().keys(), "docs/runbook.md")


def test_the_runbook_has_the_priorities_that_alerts_are_raised_with(raised):
    rows = rows_of_the_runbook()

    assert {p.value for p in Priority} >= set.union(*raised.values())
    for key in rows.keys() & raised.keys():
        same(raised[key], rows[key], f"docs/runbook.md, priority of {key}")


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
