"""The rules of the layout, checked by reading the code: who may import whom, that every module has
its test, and that nothing grows beyond what a reader holds in the head.

Each rule is a function from source texts to complaints, and each is fed a bad source as well: an
alarm that cannot ring guards nothing.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Path inside the package, such as `core/cors.py`, to its text.
Sources = Mapping[str, str]

LAYERS = {
    "core": ("core",),
    "engine": ("core", "engine"),
    "edge": ("core", "engine", "edge"),
    "control": ("core", "engine", "control", "__version__"),
    "settings": ("settings",),
}
# What core would have to wait for, or would answer differently each time.
IMPURE = frozenset(
    ("asyncio", "time", "socket", "ssl", "threading", "logging", "random", "os", "select")
)
COMPOSITION = frozenset(
    (
        "app.py",
        "cli.py",
        "wired.py",
        "wiring.py",
        "wiring_deployments.py",
        "wiring_listening.py",
        "wiring_tls.py",
        "wiring_tokens.py",
        "worker.py",
    )
)
MODULE_LINES = 400
FUNCTION_LINES = 60
# Modules and functions above the bound, with the reason. This list may only shrink.
LARGE_MODULES = {
    "edge/server.py": "one connection is one state machine; cut in two, its states would be shared",
}
LARGE_FUNCTIONS: dict[str, str] = {}
PRINTING = frozenset(("cli.py", "control/demo.py"))
THREATS = (*range(1, 21), *range(25, 28), *range(30, 40), *range(41, 47), 51)


def package() -> Sources:
    folder = ROOT / "gateway"
    return {
        path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(folder.glob("**/*.py"))
    }


def imports(path: str, text: str) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever in it."""
    package_of = ("gateway." + path.replace("/", ".")).split(".")[:-2]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package_of[: len(package_of) - node.level + 1] if node.level else []
            start = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{start}.{alias.name}"


def wrong_imports(sources: Sources) -> list[str]:
    """Imports against the direction `settings <- app -> edge, control -> engine -> core`."""
    found: list[str] = []
    for path, text in sources.items():
        layer = path.partition("/")[0] if "/" in path else ""
        for line, name in imports(path, text):
            root, _, below = name.partition(".")
            target = below.partition(".")[0]
            if root == "gateway":
                allowed = target in LAYERS[layer] if layer else True
                if target == "settings" and layer != "settings" and path not in COMPOSITION:
                    allowed = False
                if name == "gateway" or not allowed:
                    found.append(f"{path}:{line}: {name}")
            elif layer == "core" and root in IMPURE:
                found.append(f"{path}:{line}: {name}")
    return found


def without_test(sources: Iterable[str], tests: Iterable[str]) -> list[str]:
    """Modules whose twin `test_<name>.py` is not at the same place under tests/."""
    have = set(tests)
    return [
        path
        for path in sources
        if (name := path.rpartition("/")[2]) not in ("__init__.py", "__main__.py")
        and path.removesuffix(name) + "test_" + name not in have
    ]


def large_modules(sources: Sources) -> list[str]:
    return [path for path, text in sources.items() if text.count("\n") > MODULE_LINES]


def large_functions(sources: Sources) -> list[str]:
    """Functions above the bound, as `path::name`. Docstrings count: they are read as well."""
    return [
        f"{path}::{node.name}"
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    ]


def global_statements(sources: Sources) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Global)
    ]


def prints(sources: Sources) -> list[str]:
    return [
        f"{path}:{node.lineno}"
        for path, text in sources.items()
        if path not in PRINTING
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Name) and node.id == "print"
    ]


def untested_threats(tests: Iterable[str]) -> list[str]:
    """Threats of the table without a test function `test_t<NN>_...` in the given texts."""
    named = {
        int(match[1])
        for text in tests
        for match in re.finditer(r"^\s*(?:async )?def test_t(\d\d)_\w+\(", text, re.MULTILINE)
    }
    return [f"T{number}" for number in THREATS if number not in named]


def test_the_package_is_read_at_all() -> None:
    sources = package()
    assert len(sources) > 40
    assert {path.partition("/")[0] for path in sources if "/" in path} == set(LAYERS)
    assert any(
        name == "gateway.core.cors.Cors" for _, name in imports("w.py", sources["wiring.py"])
    )


def test_layers_import_only_what_lies_below_them() -> None:
    assert wrong_imports(package()) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/a.py", "import asyncio"),
        ("core/a.py", "from time import monotonic"),
        ("core/a.py", "def f():\n    import os.path"),
        ("core/a.py", "from gateway.engine.pools import Pool"),
        ("core/a.py", "from gateway import engine"),
        ("core/a.py", "from ..engine import pools"),
        ("core/a.py", "from .. import engine"),
        ("core/a.py", "import gateway"),
        ("core/a.py", "if TYPE_CHECKING:\n    from gateway.edge.server import Downstream"),
        ("engine/a.py", "import gateway.edge.server"),
        ("engine/a.py", "from gateway.settings.units import parse_size"),
        ("engine/a.py", "from gateway import __version__"),
        ("edge/a.py", "from gateway.control import admin"),
        ("edge/a.py", "from gateway.app import Gateway"),
        ("control/a.py", "from gateway.edge.listener import Listener"),
        ("control/a.py", "from gateway.settings.schema import Settings"),
        ("control/a.py", "from gateway.wiring import wire"),
        ("settings/a.py", "from gateway.core.cors import Cors"),
        ("installation.py", "from gateway.settings.units import parse_size"),
        ("__main__.py", "from gateway.settings import units"),
    ],
)
def test_an_import_against_the_direction_rings(path: str, text: str) -> None:
    assert len(wrong_imports({path: text})) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("core/a.py", "import re\nfrom gateway.core.grammar import OWS\nfrom .grammar import OWS"),
        ("engine/a.py", "import asyncio\nfrom gateway.core.faults import Fault"),
        ("edge/a.py", "import socket\nfrom gateway.engine.exchange import Exchange"),
        ("control/a.py", "from gateway import __version__"),
        ("settings/a.py", "from gateway.settings.units import parse_size"),
        (
            "app.py",
            "from gateway.settings.loading import validate\nfrom gateway.edge import server",
        ),
        ("cli.py", "from gateway.app import load"),
    ],
)
def test_an_import_along_the_direction_does_not_ring(path: str, text: str) -> None:
    assert wrong_imports({path: text}) == []


def test_every_module_has_a_test_of_its_name() -> None:
    folder = ROOT / "tests"
    tests = [path.relative_to(folder).as_posix() for path in folder.glob("**/*.py")]
    assert without_test(package(), tests) == []


def test_a_module_without_its_test_rings() -> None:
    modules = ["__init__.py", "__main__.py", "core/__init__.py", "core/a.py", "core/b.py", "c.py"]
    assert without_test(modules, ["core/test_a.py", "test_b.py", "core/test_c.py"]) == [
        "core/b.py",
        "c.py",
    ]


def test_no_module_is_larger_than_it_may_be() -> None:
    assert sorted(large_modules(package())) == sorted(LARGE_MODULES), "add none; remove what shrank"


def test_no_function_is_larger_than_it_may_be() -> None:
    assert sorted(large_functions(package())) == sorted(LARGE_FUNCTIONS), "add none"


def test_size_rings_at_the_first_line_too_many() -> None:
    body = "    pass\n"
    assert large_modules({"a.py": "pass\n" * 400, "b.py": "pass\n" * 401}) == ["b.py"]
    text = f"def short():\n{body * 59}\n\nclass C:\n    async def long(self):\n{'    ' + body}" + (
        ("    " + body) * 59
    )
    assert large_functions({"a.py": text}) == ["a.py::long"]


def test_no_function_changes_globals() -> None:
    assert global_statements(package()) == []
    assert global_statements({"a.py": "x = 0\ndef f():\n    global x\n    x = 1\n"}) == ["a.py:3"]


def test_only_the_command_line_prints() -> None:
    assert prints(package()) == []
    bad = "def f(say=print):\n    print('x')\n"
    assert prints({"core/a.py": bad, "cli.py": bad, "control/demo.py": bad}) == [
        "core/a.py:1",
        "core/a.py:2",
    ]


def test_every_threat_has_a_test_that_bears_its_number() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("**/test_*.py")]
    assert untested_threats(texts) == []


def test_a_threat_without_a_test_rings() -> None:
    every = [f"def test_t{number:02}_holds() -> None:" for number in THREATS]
    assert untested_threats(["\n".join(every)]) == []
    assert untested_threats(["\n".join(every[1:-1]), "# def test_t01_is_planned("]) == ["T1", "T51"]
    assert len(untested_threats(["def test_t1_with_one_digit() -> None:"])) == len(THREATS)
