"""A file that cannot be read, is no YAML or repeats a key gets a report like any other mistake, and
words mean what they say: the YAML of the configuration is that of YAML 1.2's core schema."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.settings.loading import BadConfiguration, Source, parse_source, validate
from gateway.settings.mistakes import Mistake
from gateway.settings.sections import Section
from tests.support.checking import check, demo, good, refused


def parse(text: str) -> Any:
    return parse_source(text, Source("gateway.yaml", Path("/"))).data


BROKEN: dict[str, tuple[str | bytes, list[str]]] = {
    "empty": ("", [" is empty"]),
    "only-comments": ("# nothing\n\n# at all\n", [" is empty"]),
    "empty-document": ("---\n...\n", ["2: is empty"]),
    "a-list": ("- listen\n- admin\n", ["1: is not a mapping"]),
    "words": ("just some words\n", ["1: is not a mapping"]),
    "a-number": ("\n\n8080\n", ["3: is not a mapping"]),
    "binary": (b"listen: \xff\xfe\n", [" is not UTF-8 text"]),
    "utf-16": ("listen: h:1\n".encode("utf-16"), [" is not UTF-8 text"]),
    "tab": ("listen: h:1\n\tadmin: h:2\n",
            ["2: is not YAML: found character '\\t' that cannot start any token"]),
    "indent": ("listen: h:1\n  admin: h:2\n",
               ["2: is not YAML: mapping values are not allowed here"]),
    "open-list": ("listen: h:1\nendpoints: [a, b\n",
                  ["3: is not YAML: expected ',' or ']', but got '<stream end>'"]),
    "open-quote": ('listen: "h:1\n', ["2: is not YAML: found unexpected end of stream"]),
    "two-documents": ("listen: h:1\n---\nadmin: h:2\n",
                      ["2: is not YAML: but found another document"]),
    "unknown-anchor": ("listen: *nowhere\n", ["1: is not YAML: found undefined alias"]),
    "key-list": ("listen: h:1\n[a, b]: 5\n", ["2: is not YAML: found unhashable key"]),
    "python-object": (
        "listen: !!python/object/apply:os.getcwd []\n",
        ["1: is not YAML: could not determine a constructor for the tag"],
    ),
    "repeated-at-the-top": ("listen: h:1\nadmin: h:2\nlisten: h:3\n",
                            ["3: listen: is there twice"]),
    "repeated-inside": (
        demo(more="timeout: 5s\ndialect: v1\ntimeout: 6s", end="admin: h:1\nadmin: h:2\n"),
        ["8: endpoints.demo.timeout: is there twice", "10: admin: is there twice"],
    ),
    "repeated-with-quotes": (
        demo(deployments='{blue: {backends: [http://h]}, "blue": {backends: [http://i]}}'),
        ["5: endpoints.demo.deployments.blue: is there twice"],
    ),
    "repeated-endpoint": (
        demo(end="  demo:\n    auth: none\n"), ["6: endpoints.demo: is there twice"]
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "report"), BROKEN.values(), ids=BROKEN)
def test_a_file_that_is_no_mapping_in_yaml_is_refused(
    tmp_path: Path, text: str | bytes, report: list[str]
) -> None:
    assert check(tmp_path, text) == refused(*report)


def test_a_control_character_is_found_on_its_line(tmp_path: Path) -> None:
    (line, _) = check(tmp_path, "listen: h:1\nadmin: h:\a2\n").report
    assert line.startswith("gateway.yaml:2: is not YAML: ")
    assert line != "gateway.yaml:2: is not YAML: not YAML"


CRASHES = {
    "no-integer": "listen: {address: h:1, backlog: !!int many}\n",
    "zero-in-front": "listen: {address: h:1, backlog: 09}\n",
    "five-thousand-digits": f"listen: {{address: h:1, backlog: {'9' * 5000}}}\n",
    "no-boolean": "access_log: {enabled: !!bool perhaps}\n",
    "no-date": "listen: !!timestamp someday\n",
    "endless-list": "listen: &list [*list]\n",
    "nested-by-the-thousand": "[" * 2000,
}


@pytest.mark.parametrize("text", CRASHES.values(), ids=CRASHES)
def test_no_text_makes_the_loader_fail(tmp_path: Path, text: str) -> None:
    assert check(tmp_path, text).status == 2


def test_a_missing_file_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    assert check(tmp_path, None) == refused(" cannot be read: No such file or directory")


def test_a_file_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    # Permissions would not stop the root user that tests may run as; this file stops everybody.
    (tmp_path / "gateway.yaml").symlink_to("/proc/self/mem")
    assert check(tmp_path, None) == refused(" cannot be read: Input/output error")


def test_a_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "gateway.yaml").symlink_to("gateway.yaml")
    assert check(tmp_path, None) == refused(" cannot be read: Too many levels of symbolic links")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("no", "no"),
        ("yes", "yes"),
        ("y", "y"),
        ("none", "none"),
        ("None", "None"),
        ("12:30", "12:30"),
        ("1:2:3", "1:2:3"),
        ("2001-01-01", "2001-01-01"),
        ("1_000", "1_000"),
        ("=", "="),
        ("<<", "<<"),
        ("0b1", "0b1"),
        ("1.2.3", "1.2.3"),
        ("60s", "60s"),
        ("true", True),
        ("False", False),
        ("5", 5),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("null", None),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("'true'", "true"),
    ],
)
def test_words_and_numbers_are_those_of_yaml_1_2(text: str, value: object) -> None:
    found = parse(f"key: {text}\n")["key"]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("text", "value"), [("010", 10), ("-0100", -100)])
def test_a_zero_in_front_changes_no_number(text: str, value: int) -> None:
    assert parse(f"key: {text}\n")["key"] == value


def test_names_may_be_words_that_yaml_1_1_takes_for_booleans(tmp_path: Path) -> None:
    text = (
        "listen: h:1\n"
        "endpoints:\n"
        "  on:\n"
        "    auth: none\n"
        "    deployments: {yes: {backends: [http://h]}, no: {backends: [http://i]}}\n"
        "    traffic: {yes: 50, no: 50}\n"
        "    default: yes\n"
    )
    assert check(tmp_path, text) == good(1, 2)


def test_a_part_may_be_written_once_and_used_twice(tmp_path: Path) -> None:
    text = (
        "listen: h:1\n"
        "endpoints:\n"
        "  first: &first\n"
        "    auth: none\n"
        "    deployments: {blue: {backends: [http://h]}}\n"
        "  second: *first\n"
    )
    assert check(tmp_path, text) == good(2, 2)


def test_a_byte_order_mark_is_not_part_of_the_first_key(tmp_path: Path) -> None:
    assert check(tmp_path, b"\xef\xbb\xbf" + demo().encode()) == good()


def test_lines_are_those_of_the_text_whatever_ends_them(tmp_path: Path) -> None:
    text = demo(more="timeout: 5").replace("\n", "\r\n")
    assert check(tmp_path, text).report[0].startswith("gateway.yaml:6: endpoints.demo.timeout: ")


def test_the_report_puts_mistakes_in_order_and_says_each_once() -> None:
    source = Source("f", Path("/"), lines={(): 1, ("a",): 2, ("b",): 5, ("b", 0): 6})
    mistakes = [
        Mistake(("b", 0, "gone"), "deep"),
        Mistake(("a",), "first"),
        Mistake(("a",), "first"),
        Mistake((), "root"),
        Mistake(("b", 1), "above"),
    ]
    assert BadConfiguration(source, mistakes).lines == [
        "f:1: root",
        "f:2: a: first",
        "f:5: b[1]: above",
        "f:6: b[0].gone: deep",
    ]


# Arbitrary data, made of our own words so that it gets deep into the schema.
_WORDS = sorted(
    {name for kind in Section.__subclasses__() for name in kind.model_fields}
    | {"file", "env", "demo", "blue"}
)
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.binary(max_size=4)
    | st.sampled_from(
        ["none", "h:1", "60s", "1MiB", "http://h:1", "RS256", "GET", "v1", "off", "*"]
    )
)
_DATA = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(_WORDS), inner, max_size=6)
        | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=30,
)
_GOOD = parse(demo(end="admin: {address: 127.0.0.1:1}\naccess_log: {path: log}"))


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = (
        data.items() if isinstance(data, dict) else enumerate(data if type(data) is list else ())
    )
    return [path, *(p for key, value in inner for p in _paths(value, (*path, key)))]


def _replace(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = _replace(data[path[0]], path[1:], value)
    return copy


def _judge(data: Any) -> None:
    source = Source("f", Path("/"), data)
    found, mistakes = validate(source)
    assert mistakes or found is not None
    lines = BadConfiguration(source, mistakes).lines
    assert bool(lines) == bool(mistakes)
    assert all(line.startswith("f") for line in lines)


@given(_DATA)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@example({"listen": {"address": "h:1"}, "endpoints": {1: 2, None: 3, ("a",): 4}})
def test_any_data_gets_settings_or_a_report(data: Any) -> None:
    _judge(data)


@given(st.sampled_from(_paths(_GOOD)), _DATA)
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
def test_good_settings_with_one_place_changed_get_settings_or_a_report(
    path: tuple[Any, ...], junk: Any
) -> None:
    _judge(_replace(_GOOD, path, junk))


@given(st.integers(0, 130), st.integers(0, 6), st.text("abc:-,[]{}'\"#|>? \n\t", max_size=4))
def test_any_change_of_the_text_gets_data_or_a_report(at: int, cut: int, put: str) -> None:
    text = demo()
    try:
        found = parse(text[:at] + put + text[at + cut :])
    except BadConfiguration as report:
        found = report.lines[0]
    assert json.dumps(found)
