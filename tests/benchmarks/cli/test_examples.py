"""Every example in a verb's help is a command that exists: verb, options, values and names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from ovd_bench.benchmarks.cli.app import app
from ovd_bench.benchmarks.data.catalog.cards import CARDS
from ovd_bench.detectors.registry import BUILT_IN

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


@pytest.mark.parametrize(("verb", "line"), EXAMPLES)
def test_an_example_is_a_command_that_exists(verb: str, line: str) -> None:
    for single in line.split("&&"):
        words = shlex.split(single.removeprefix(" bench "))
        assert words[0] == verb.split()[0], "the example is of another verb"
        context = COMMAND.make_context("bench", list(words))
        command: Any = COMMAND
        while hasattr(command, "commands"):
            word, *rest = [*context._protected_args, *context.args]
            command = command.commands[word]
            context = command.make_context(word, rest, parent=context)
        for parameter, value in context.params.items():
            for text in _names(value):
                if parameter in DETECTORS:
                    assert text in BUILT_IN or ".py:" in text
                elif parameter in BENCHMARKS:
                    assert text in CARDS or "/" in text or text.endswith(".json")
                elif parameter in RUNS:
                    assert text in BUILT_IN or "/" in text or "." in text


def _names(value: Any) -> list[str]:
    entries = value if isinstance(value, list | tuple) else [value]
    return [name for entry in entries if isinstance(entry, str) for name in entry.split(",")]
