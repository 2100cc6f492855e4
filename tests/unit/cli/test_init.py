"""The group: commands are loaded late, and what it says of them without loading is what they say themselves."""

from __future__ import annotations

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from sse_daemon.cli import COMMANDS, main
from tests.integration.daemon import ROOT, command, environ

DOCUMENTED = ROOT / "docs" / "commands.md"
HEAVY = {"tornado", "zmq", "httpx", "rich", "asyncio", "sse_daemon.daemon"}


def loaded_by(*arguments: str) -> set[str]:
    """The modules that an interpreter has after `sse-daemon ARGUMENTS`."""
    code = "import sys\nfrom sse_daemon.cli import main\nmain(sys.argv[1:], standalone_mode=False)\nprint('\\n', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=environ({}), check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_help_loads_no_command_and_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert "click" in loaded
    assert not loaded & HEAVY
    assert not {name for name in loaded if name.startswith("sse_daemon.cli.")}


def test_a_question_to_the_daemon_loads_nothing_heavy() -> None:
    loaded = loaded_by("clients", "--help")
    assert "sse_daemon.cli.clients" in loaded
    assert not loaded & HEAVY


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_says_what_the_command_says(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    assert found.short_help == COMMANDS[name]
    assert (found.help or "").split("\n\n")[0] == COMMANDS[name]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str) -> None:
    found = main.get_command(click.Context(main), name)
    assert found is not None
    assert not [option.name for option in found.params if isinstance(option, click.Option) and not option.help]


def test_the_help_lists_every_command() -> None:
    output = CliRunner().invoke(main, ["--help"]).output
    assert [line.split()[0] for line in output.partition("Commands:\n")[2].splitlines()] == list(COMMANDS)


@pytest.mark.parametrize("name", ["nonsense", "faults", "tables", "__main__"])
def test_what_is_no_command_is_wrong_usage(name: str) -> None:
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_the_version_is_the_packages() -> None:
    from sse_daemon import __version__

    assert CliRunner().invoke(main, ["--version"]).output == f"sse-daemon {__version__} (pure Python)\n"


# Completion


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_script_registers_the_command(shell: str) -> None:
    done = command(_SSE_DAEMON_COMPLETE=f"{shell}_source")
    assert done.returncode == 0, done.stderr
    assert f"_SSE_DAEMON_COMPLETE={shell}_complete" in done.stdout
    registers = {
        "bash": "complete -o nosort -F",
        "zsh": "compdef _sse_daemon_completion sse-daemon",
        "fish": "complete --no-files",
    }
    assert registers[shell] in done.stdout


def test_bash_itself_takes_its_script() -> None:
    script = command(_SSE_DAEMON_COMPLETE="bash_source").stdout
    done = subprocess.run(["bash", "-c", f"{script}\ncomplete -p sse-daemon"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "_sse_daemon_completion sse-daemon" in done.stdout


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sse-daemon cl", ["clients"]),
        ("sse-daemon p", ["producers", "publish"]),
        ("sse-daemon clients --so", ["--sort"]),
        ("sse-daemon clients --sort d", ["delivered"]),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_words_are_completed(shell: str, words: str, offered: list[str]) -> None:
    last = len(words.split()) - 1
    position = words.split()[-1] if shell == "fish" else str(last)
    done = command(_SSE_DAEMON_COMPLETE=f"{shell}_complete", COMP_WORDS=words, COMP_CWORD=position)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    found = {
        "bash": [line.partition(",")[2] for line in lines],
        "zsh": lines[1::3],
        "fish": [line.partition(",")[2].partition("\t")[0] for line in lines],
    }
    assert found[shell] == offered


# The document


@pytest.mark.parametrize("name", COMMANDS)
def test_the_document_names_every_command_and_option(name: str) -> None:
    text = DOCUMENTED.read_text()
    section = text.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert section, f"docs/commands.md has no section {name}"
    found = main.get_command(click.Context(main), name)
    assert found is not None
    options = {option.opts[-1] for option in found.params if isinstance(option, click.Option)}
    everywhere = {"--json", "--admin", "--help"}  # one place for all
    assert not {option for option in options - everywhere if option not in section}


def test_the_document_has_the_commands_in_the_order_of_the_help() -> None:
    sections = [line.removeprefix("## ") for line in DOCUMENTED.read_text().splitlines() if line.startswith("## ")]
    assert [name for name in sections if name in COMMANDS] == list(COMMANDS)
