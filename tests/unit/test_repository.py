"""The files for people who contribute agree with the tree, the Makefile and one another."""

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Final

import pytest

from tests.plain_yaml import NotPlainError, read

ROOT: Final = Path(__file__).parents[2]
FORMS: Final = ROOT / ".github" / "ISSUE_TEMPLATE"


def _lines_of(*command: str) -> list[str]:
    # A make that runs these tests hands its own flags down.
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    run = subprocess.run(
        command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return run.stdout.splitlines()


def _files() -> list[Path]:
    """The files of the repository, those that are not committed yet as well."""
    listed = _lines_of("git", "ls-files", "--cached", "--others", "--exclude-standard")
    return [path for name in listed if (path := ROOT / name).is_file()]


# .editorconfig


def _editorconfig() -> ConfigParser:
    config = ConfigParser()
    config.read_string("[root]\n" + (ROOT / ".editorconfig").read_text())
    return config


def _globs(section: str) -> list[str]:
    """A section's globs for fnmatch: `*.{yml,yaml}` is two."""
    match = re.fullmatch(r"(.*)\{(.+)\}(.*)", section)
    return [match[1] + each + match[3] for each in match[2].split(",")] if match else [section]


def _disagreements(name: str, content: bytes, config: ConfigParser) -> Iterator[str]:
    """How a file differs from what .editorconfig says of it."""
    wanted: dict[str, str] = {}
    for section in config.sections()[1:]:
        if any(fnmatch(name, each) or fnmatch(Path(name).name, each) for each in _globs(section)):
            wanted |= config[section]
    text = content.decode(wanted.pop("charset"))
    lines = text.split("\n")
    if wanted.pop("end_of_line") == "lf" and "\r" in text:
        yield "has a carriage return"
    if wanted.pop("insert_final_newline") == "true" and not (not text or text.endswith("\n")):
        yield "does not end with a newline"
    if wanted.pop("trim_trailing_whitespace") == "true" and any(
        line != line.rstrip() for line in lines
    ):
        yield "has whitespace at the end of a line"
    other = {"space": "\t", "tab": " "}[wanted.pop("indent_style")]
    if any(line.startswith(other) for line in lines):
        yield f"is indented by {other!r}"
    unit = wanted.pop("indent_size")
    # Python's is the formatter's, and prose is aligned with what is above it.
    if unit.isdigit() and not name.endswith((".py", ".md")):
        # Deeper lines may be aligned as well; the first level is one unit.
        levels = [len(line) - len(line.lstrip(" ")) for line in lines if line.startswith(" ")]
        if levels and min(levels) != int(unit):
            yield f"is indented by {min(levels)}, not {unit}"
    if longest := wanted.pop("max_line_length", None):
        ruff = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]
        if int(longest) != ruff["line-length"]:
            yield f"is formatted to {ruff['line-length']} columns, not {longest}"
    assert not wanted, f"not checked: {wanted}"


def test_the_files_agree_with_editorconfig() -> None:
    config = _editorconfig()
    wrong = [
        f"{name} {what}"
        for path in _files()
        if path.suffix != ".png"  # No text.
        for name in [str(path.relative_to(ROOT))]
        for what in _disagreements(name, path.read_bytes(), config)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("a.py", b"a\r\n", "has a carriage return"),
        ("a.py", b"a", "does not end with a newline"),
        ("a.py", b"a \n", "has whitespace at the end of a line"),
        ("a.py", b"if a:\n\tb\n", "is indented by '\\t'"),
        ("a.toml", b"a = [\n  1,\n]\n", "is indented by 2, not 4"),
        ("a/b.yml", b"a:\n   b: c\n", "is indented by 3, not 2"),
        ("scripts/install", b"if a; then\n   b\n", "is indented by 3, not 2"),
        ("Makefile", b"a:\n    b\n", "is indented by ' '"),
    ],
)
def test_a_file_that_disagrees_with_editorconfig_is_found(
    name: str, content: bytes, what: str
) -> None:
    assert what in list(_disagreements(name, content, _editorconfig()))


# .pre-commit-config.yaml


def _hooks() -> list[dict[str, Any]]:
    config: Any = read((ROOT / ".pre-commit-config.yaml").read_text())
    (repository,) = config["repos"]
    assert repository["repo"] == "local", (
        "another repository needs a network, and has versions of its own"
    )
    hooks: list[dict[str, Any]] = repository["hooks"]
    return hooks


def test_pre_commit_runs_what_make_check_runs() -> None:
    commands = [line for line in _lines_of("make", "--dry-run", "check") if ".venv/" in line]
    assert [hook["entry"] for hook in _hooks()] == commands


def test_every_hook_checks_the_whole_tree_with_the_tools_of_this_clone() -> None:
    for hook in _hooks():
        assert hook["language"] == "system"
        assert (hook["always_run"], hook["pass_filenames"]) == (True, False)


# .github


@pytest.mark.parametrize("path", sorted(FORMS.glob("*.yml")), ids=lambda path: path.name)
def test_an_issue_form_is_one_that_github_takes(path: Path) -> None:
    form: Any = read(path.read_text())
    if path.name == "config.yml":
        assert form == {"blank_issues_enabled": False}
        return
    assert (
        {"name", "description", "body"} <= form.keys() <= {"name", "description", "body", "labels"}
    )
    fields = [each for each in form["body"] if each["type"] != "markdown"]
    assert len({each["id"] for each in fields}) == len(fields) > 0
    assert len({each["attributes"]["label"] for each in fields}) == len(fields)
    for each in form["body"]:
        match each["type"]:
            case "markdown":
                assert each["attributes"].keys() == {"value"}
            case "checkboxes":
                assert all(option["label"] for option in each["attributes"]["options"])
            case "dropdown":
                options = each["attributes"]["options"]
                assert len(set(options)) == len(options) > 1
            case "textarea" | "input":
                assert each["attributes"].keys() <= {
                    "label",
                    "description",
                    "placeholder",
                    "render",
                }
            case other:
                pytest.fail(f"GitHub has no field {other!r}")


@pytest.mark.parametrize(
    "text",
    [
        "a: b: c\n",
        "a: 'b'\n",
        "a: b # c\n",
        "a: {b: c}\n",
        "a: `b`\n",
        "a: 1.0\n",
        "a: no\n",
        "a: b\na: c\n",
        "a:\n   b: c\n",
        "a:\n\tb: c\n",
        "a:\nb: c\n",
        "a: b\n  c: d\n",
        "a:\n  - b\n  c: d\n",
    ],
)
def test_yaml_that_might_be_read_otherwise_is_refused(text: str) -> None:
    with pytest.raises(NotPlainError):
        read(text)


def test_plain_yaml_is_read() -> None:
    text = "# c\na:\n  - b: true\n    c: d e\n\n  - f\ng: [h, i-j]\nk: |\n  l: 'm'\n\n    n\no: p\n"
    assert read(text) == {
        "a": [{"b": True, "c": "d e"}, "f"],
        "g": ["h", "i-j"],
        "k": "l: 'm'\n\n  n\n",
        "o": "p",
    }


# CONTRIBUTING.md


def _exercise() -> list[tuple[str, str, str]]:
    """File, old lines and new lines of each change in "Your first change"."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    section = text.split("\n## Your first change\n")[1].split("\n## ")[0]
    changes = []
    for block in re.findall(r"```diff\n--- (.+?)```", section, re.DOTALL):
        name, *lines = block.splitlines()
        old, new = (
            "\n".join(line[1:] for line in lines if line.startswith(sign)) + "\n" for sign in "-+"
        )
        changes.append((name, old, new))
    return changes


def test_the_exercise_for_newcomers_changes_lines_that_are_there() -> None:
    changes = _exercise()
    assert [name.partition("/")[0] for name, _, _ in changes] == ["tests", "worker", "docs"]
    for name, old, new in changes:
        content = (ROOT / name).read_text()
        # Who is doing the exercise runs this test as well.
        assert content.count(old) + content.count(new) == 1, f"{name}: {old}"
