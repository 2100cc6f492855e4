"""What is built, what is declared, and the two folders that are never imported under their bare names."""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, foreign, imports, modules, repository

LINKS = {"backends": "../backends", "cli": "../cli"}
IMPORTED_AS = {"pyzmq": "zmq", "pynacl": "nacl", "pyjwt": "jwt"}
"""Distributions whose import name is not their own name with underscores."""


def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(delimiters=("=",), interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


def listed(section: str, key: str) -> list[str]:
    return setup_cfg()[section][key].split("\n")[1:]


# The mapping


@pytest.mark.parametrize("name", LINKS)
def test_the_link_is_in_the_tree_and_in_git(name: str) -> None:
    link = ROOT / "sse_daemon" / name
    assert link.is_symlink()
    assert os.readlink(link) == LINKS[name]
    mode = subprocess.run(["git", "ls-files", "--stage", link], cwd=ROOT, check=True, capture_output=True, text=True).stdout[:6]
    assert mode == "120000"


def test_setup_cfg_says_what_the_links_say() -> None:
    assert listed("options", "package_dir") == [f"sse_daemon.{name} = {name}" for name in LINKS]
    assert listed("options", "packages") == ["sse_daemon", *(f"sse_daemon.{name}" for name in LINKS), "sse_daemon.bench"]


def test_nobody_imports_the_bare_names() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in repository()
        if path.suffix == ".py"
        for name in imports(path)
        if name.partition(".")[0] in LINKS
    ]
    assert not wrong


@pytest.mark.parametrize("folder", LINKS)
def test_every_mapped_module_begins_by_saying_its_name(folder: str) -> None:
    for name, path in modules().items():
        if name.split(".")[0] == folder:
            assert f"sse_daemon.{name}" in (path.read_text() or "\n").splitlines()[0], path


EVERY_MODULE = """
import os, pkgutil, sys
import sse_daemon
for found in pkgutil.walk_packages(sse_daemon.__path__, "sse_daemon."):
    __import__(found.name)
files = {}
for name, module in sys.modules.items():
    if (file := getattr(module, "__file__", None)) and name != "__main__":
        files.setdefault(os.path.realpath(file), []).append(name)
print(*[names for file, names in files.items() if "sse_daemon" in names[0] and len(names) > 1])
print(*{"backends", "cli"} & sys.modules.keys())
"""


def test_every_module_is_loaded_once_and_under_its_long_name() -> None:
    done = subprocess.run([sys.executable, "-c", EVERY_MODULE], cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout == "\n\n"


# What is declared


def requirements(lines: list[str]) -> dict[str, str]:
    """Distribution -> the versions that it may have."""
    found = (re.fullmatch(r"([A-Za-z0-9_.-]+?)([<>=!~].*)?", line) for line in lines)
    return {match[1]: match[2] or "" for match in found if match}


def test_what_is_imported_is_what_is_required() -> None:
    used = {name.partition(".")[0] for path in modules().values() for name in foreign(path)} - sys.stdlib_module_names
    required = {IMPORTED_AS.get(name, name.replace("-", "_")) for name in requirements(listed("options", "install_requires"))}
    assert used == required


def test_requirements_have_a_floor() -> None:
    for name, versions in requirements(listed("options", "install_requires")).items():
        assert versions.startswith((">=", "==")), name


def test_pyproject_leaves_everything_to_setup_cfg() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(project) == {"name", "dynamic"}
    assert project["name"] == setup_cfg()["metadata"]["name"]


def test_entry_points_lead_somewhere() -> None:
    for lines in setup_cfg()["options.entry_points"].values():
        for line in lines.split("\n")[1:]:
            module, _, name = line.partition(" = ")[2].partition(":")
            tree = ast.parse(modules()[module.removeprefix("sse_daemon.")].read_text())
            defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
            assert name in defined, line


# What is built


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from that sdist, with no network needed."""
    tree, out = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("built")
    for path in repository():
        target = tree / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target, follow_symlinks=False)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    return out


def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_the_wheel_has_every_module_and_nothing_else(built: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel(built)).namelist() if ".dist-info/" not in name}
    folders = {"sse_daemon": "sse_daemon", **{name: f"sse_daemon/{name}" for name in (*LINKS, "bench")}}
    expected = {f"{folders[path.parent.name]}/{path.name}" for path in modules().values()}
    assert names == {*expected, "sse_daemon/py.typed", "sse_daemon/web/client.js"}


def test_the_sdist_has_what_a_service_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {str(path.relative_to(ROOT)) for path in repository() if path.relative_to(ROOT).parts[0] in ("systemd", "tests")}
    assert wanted | {"LICENSE", "Makefile", "setup.cfg", "pyproject.toml"} <= names


INSTALLED = """
import sys
from importlib.metadata import entry_points
import sse_daemon.cli
from sse_daemon.backend import Limits
from sse_daemon.backends import create
assert sse_daemon.cli.__file__.startswith(sys.argv[1]), sse_daemon.cli.__file__
for found in entry_points(group="sse_daemon.backends"):
    assert found.load().__module__ == f"sse_daemon.backends.{found.name}"
    print(found.name)
create("memory://", Limits())
(command,) = entry_points(group="console_scripts", name="sse-daemon")
assert command.load() is sse_daemon.cli.main
"""


def test_the_wheel_works_without_the_tree(built: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel(built)).extractall(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED, str(tmp_path)],
        cwd="/",
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert set(done.stdout.split()) == {"memory", "sqlite"}
