"""The scenarios of tests/scenarios, one test each; and what their language promises."""

import re
from pathlib import Path

import pytest

from tests.scenarios.errors import ScenarioError
from tests.scenarios.language import COMMANDS, EXPECTATIONS
from tests.scenarios.runner import FOLDER, run_scenario, scenarios

README = (FOLDER / "README.md").read_text()
GOOD = README.split("```\n")[1]


@pytest.mark.parametrize("path", scenarios(), ids=lambda path: path.stem)
def test_scenario(path: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    update = bool(request.config.getoption("--update-scenarios"))
    wrong = None
    try:
        run_scenario(path, tmp_path, update=update)
    except ScenarioError as error:
        wrong = str(error)
    if wrong is not None:  # Outside: pytest would show it twice.
        pytest.fail(wrong, pytrace=False)


# The documentation.


def _rows(heading: str) -> list[list[str]]:
    section = README.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [
        line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| `")
    ]


def test_each_command_is_documented_as_it_is_used() -> None:
    documented = [row[0].strip("`") for row in _rows("Commands")]
    assert sorted(documented) == sorted(each.usage.text for each in COMMANDS.values())


def test_each_expectation_is_documented_with_its_columns() -> None:
    documented = {row[0].strip("`"): tuple(row[2].split()) for row in _rows("Expectations")}
    assert documented == {f"expect {name}": each.columns for name, each in EXPECTATIONS.items()}


def test_each_command_is_used_by_a_scenario() -> None:
    told = "\n".join(path.read_text() for path in scenarios())
    unused = [
        each.usage.text
        for words, each in COMMANDS.items()
        if not re.search(rf"^(before \S+ )?{' '.join(words)}\b", told, re.MULTILINE)
    ]
    assert unused == []


# The runner.


def _run(folder: Path, text: str, *, update: bool = False) -> str:
    """Run a scenario; return the text of its file afterwards."""
    path = folder / "story.txt"
    path.write_text(text)
    run_scenario(path, folder, update=update)
    return path.read_text()


def test_the_scenario_of_the_readme_is_a_good_one(tmp_path: Path) -> None:
    assert _run(tmp_path, GOOD) == GOOD


@pytest.mark.parametrize(
    ("text", "where", "words"),
    [
        ("swarm node n1\n", ":1", "the first line says what the scenario shows"),
        ("# It.\nswarm node n1\nrun\n", "", "it expects nothing"),
        ("# It.\nswarm nodes n1\n", ":2", "there is no command 'swarm nodes'"),
        ("# It.\nswarm node n1 up\n", ":2", "'up' is not understood here; usage: swarm node NAME"),
        ("# It.\nswarm node\n", ":2", "NAME is missing; usage: swarm node NAME"),
        ("# It.\nswarm node n1 mode=observe mode=enforce\n", ":2", "mode is given twice"),
        ("# It.\nswarm node 'n1\n", ":2", "No closing quotation"),
        ("# It.\nrun\n", ":2", "begin with `swarm node NAME`"),
        ("# It.\nwait 5\n", ":2", "'5' is no duration"),
        ("# It.\nswarm node n1\n    NAME\n", ":2", "only `expect ...` has a table below it"),
        ("# It.\nswarm node n1\n\n    NAME\n", ":4", "an indented line belongs below"),
        ("# It.\nexpect nothing\n", ":2", "nothing is known of 'nothing': there are devices"),
        ("# It.\nswarm node n1\nexpect kernel\n", ":3", "a table is missing"),
        ("# It.\nswarm node n1\nexpect kernel\n    DEVICE\n", ":3", "the table has no rows"),
        ("# It.\nswarm node n1\nexpect kernel\n    DEVICE  VNI\n    one\n", ":3", "1 cell(s)"),
        ("# It.\nswarm node n1\nexpect kernel\n    COLOUR\n    (none)\n", ":3", "no column COLOUR"),
        ("# It.\nswarm node n1\nexpect devices\n    VNI\n    (none)\n", ":3", "there is no report"),
        (GOOD + "kernel fail look EINTR\n", "", "this never happened: kernel fail look EINTR"),
        (GOOD + "before look wait 1s\n", "", "this never happened: before look wait 1s"),
        (GOOD + "kernel lose-answer look\n", "", "no answer of look was lost"),
        (GOOD.partition("expect")[0] + "expect reading\n    ERROR\n    no\n", ":9", "row 1, ERROR"),
        (GOOD.replace("run\nexpect", "expect") + "wait 1s\nrun\n", ":8", "'orphan' is expected"),
        (
            "# It.\nswarm node n1\nexpect kernel\n    VNI\n    (none)\n"
            + GOOD.partition("expect")[0].partition("\n\n")[2],
            "",
            "vx-001001-shopz (ifindex 7, VNI 4097, UDP port 4789) in host was deleted, and nothing",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_line(
    tmp_path: Path, text: str, where: str, words: str
) -> None:
    with pytest.raises(ScenarioError) as raised:
        _run(tmp_path, text)
    assert str(raised.value).startswith(f"story.txt{where}:")
    assert words in str(raised.value)


def test_a_table_that_is_not_as_expected_is_shown_with_the_actual_one_to_be_copied(
    tmp_path: Path,
) -> None:
    wrong = GOOD.replace("unwanted  ~", "rejected  ~")
    with pytest.raises(ScenarioError) as raised:
        _run(tmp_path, wrong)
    table = GOOD.partition("expect devices\n")[2].rstrip()
    said = str(raised.value)
    assert said.startswith("story.txt:9: expect devices\n")
    assert "row 1, PROOF: 'rejected' is expected, and it is 'unwanted'" in said
    assert said.endswith(f"expected:\n{table.replace('unwanted', 'rejected')}\nactual:\n{table}")


def test_updating_writes_the_actual_table_and_keeps_the_cells_that_match(tmp_path: Path) -> None:
    wrong = (
        GOOD.replace("orphan   unwanted", "settling  -") + "expect kernel\n    VNI\n    7\n    8\n"
    )
    right = _run(tmp_path, wrong, update=True)
    assert right == GOOD + "expect kernel\n    VNI\n    (none)\n"
