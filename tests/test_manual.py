"""Every command says how it ends and how it is called, and what it says is true of its options."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.manual import SECTIONS


def shown(command: str) -> str:
    return CliRunner().invoke(main, [command, "--help"], prog_name="scoring-gateway").stdout


def test_every_command_has_a_manual_and_nothing_else_has() -> None:
    assert set(SECTIONS) == set(main.commands)


@pytest.mark.parametrize("command", SECTIONS)
def test_sections_are_shown_line_by_line(command: str) -> None:
    text = shown(command)
    assert {"Exit status", "Examples"} <= set(SECTIONS[command])
    for heading, section in SECTIONS[command].items():
        wanted = [f"  {heading}:"] + [f"    {line.strip()}" for line in section.strip().split("\n")]
        assert "\n".join(wanted) in text
    assert all(len(line) <= 100 for line in text.splitlines())
    # It is said once: in its section.
    assert "Exits " not in text


@pytest.mark.parametrize("command", SECTIONS)
def test_examples_are_calls_that_the_command_understands(command: str) -> None:
    for example in SECTIONS[command]["Examples"].strip().splitlines():
        program, name, *words = example.split()
        assert (program, name) == ("scoring-gateway", command)
        options = {flag for option in main.commands[command].params for flag in option.opts}
        assert {word for word in words if word.startswith("-")} <= options
