"""Every example in a verb's help is a command that exists: verb, options, values and names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.benchmarks.data.catalog.suites import SUITES
from ovd_bench.detectors.registry import BUILT_IN

ROOT = Path(__file__).resolve().parents[3]
#: A command at the begin of a line, or behind another program that starts it.
EXAMPLE = re.compile(r"^ +(?:mpiexec .* )?bench (.+)$", re.MULTILINE)
#: Parameters whose values are detectors, benchmarks or runs.
DETECTORS, BENCHMARKS, RUNS = {"detector"}, {"benchmark"}, {"runs", "a", "b", "predictions", "run"}


def commands(command: Any, *names: str) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield names, command
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, *names, name)


COMMAND = typer.main.get_command(app)
EXAMPLES = [
    (" ".join(names), line.strip())
    for names, command in commands(COMMAND)
    for line in EXAMPLE.findall(f"{command.help or ''}\n{command.epilog or ''}")
]


def test_every_verb_has_an_example() -> None:
    shown = {verb.split()[0] for verb, _ in EXAMPLES}
    assert sorted(set(getattr(COMMAND, "commands", {})) - shown) == []


def parsed(words: list[str]) -> dict[str, Any]:
    """Parameters of a command; raises what the command line would print if it does not take them."""
    context = COMMAND.make_context("bench", list(words))
    command: Any = COMMAND
    while hasattr(command, "commands"):
        word, *rest = [*context._protected_args, *context.args]
        command = command.commands[word]
        context = command.make_context(word, rest, parent=context)
    parameters: dict[str, Any] = context.params
    return parameters


def shown_in(page: Path) -> list[str]:
    """Commands in the blocks of a page, without the remarks behind them."""
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    blocks = [text for language, text in fenced if not language]
    lines = [line for block in blocks for line in re.sub(r"\\\n\s*", " ", block).splitlines()]
    commands = [part.strip().removeprefix(".venv/bin/") for line in lines for part in line.split("&&")]
    found = [re.split(r"\s{2,}|\s#", part)[0] for part in commands if part.startswith("bench ")]
    return [command for command in found if "…" not in command]


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_commands_of_a_page_are_parsed(page: Path) -> None:
    for command in shown_in(page):
        assert isinstance(parsed(shlex.split(command)[1:]), dict), command


def test_pages_show_commands() -> None:
    assert {shlex.split(command)[1] for command in shown_in(ROOT / "README.md")} >= {"run", "board", "compare", "show"}


@pytest.mark.parametrize(("verb", "line"), EXAMPLES)
def test_an_example_is_a_command_that_exists(verb: str, line: str) -> None:
    for single in line.split("&&"):
        words = shlex.split(single.removeprefix(" bench "))
        assert words[0] == verb.split()[0], "the example is of another verb"
        for parameter, value in parsed(words).items():
            for text in _names(value):
                if parameter in DETECTORS:
                    assert text in BUILT_IN or ".py:" in text
                elif parameter in BENCHMARKS:
                    assert text in CARDS or text in SUITES or "/" in text or text.endswith(".json")
                elif parameter in RUNS:
                    assert text in BUILT_IN or "/" in text or "." in text


def _names(value: Any) -> list[str]:
    entries = value if isinstance(value, list | tuple) else [value]
    return [name for entry in entries if isinstance(entry, str) for name in entry.split(",")]
