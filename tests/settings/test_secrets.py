"""A secret comes from a file or the environment, and no message ever contains one."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.settings.secrets import SecretSource, UnreadableSecret

SECRET = "correct-horse-battery-staple"
INLINE = "a secret must not stand in the configuration: say {file: PATH} or {env: NAME}"
EITHER = "say either {file: PATH} or {env: NAME}"


def test_a_secret_is_read_from_the_environment_without_the_space_around_it(tmp_path: Path) -> None:
    source = SecretSource(env="KEY")
    assert source.read(tmp_path, {"KEY": f" {SECRET}\n"}) == SECRET


@pytest.mark.parametrize("text", [SECRET, f"{SECRET}\n", f"\r\n {SECRET}\t\r\n"])
def test_a_secret_is_read_from_a_file_without_the_space_around_it(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "key").write_text(text)
    assert SecretSource(file="key").read(tmp_path, {}) == SECRET


def test_an_absolute_path_does_not_depend_on_the_folder(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    source = SecretSource(file=str(tmp_path / "key"))
    assert source.read(Path("/nowhere"), {}) == SECRET


def test_a_file_is_read_anew_each_time(tmp_path: Path) -> None:
    source = SecretSource(file="key")
    for text in ("first", "second"):
        (tmp_path / "key").write_text(text)
        assert source.read(tmp_path, {}) == text


def test_the_environment_is_not_asked_for_a_file(tmp_path: Path) -> None:
    (tmp_path / "KEY").write_text("from the file")
    assert SecretSource(file="KEY").read(tmp_path, {"KEY": SECRET}) == "from the file"


@pytest.mark.parametrize(
    ("environment", "what"),
    [
        ({}, "not set"),
        ({"key": SECRET}, "not set"),
        ({"KEY": ""}, "empty"),
        ({"KEY": " \t\n"}, "empty"),
    ],
)
def test_an_unset_or_blank_variable_is_named(
    tmp_path: Path, environment: dict[str, str], what: str
) -> None:
    with pytest.raises(UnreadableSecret) as caught:
        SecretSource(env="KEY").read(tmp_path, environment)
    assert str(caught.value) == f"the environment variable KEY is {what}"


def test_a_name_that_no_variable_can_have_is_not_set(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSecret, match=r"is not set$"):
        SecretSource(env="\ud800").read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read {path}: No such file or directory"),
        (b"", "{path} is empty"),
        (b" \n\t\n", "{path} is empty"),
        (b"\xff\xfe" + SECRET.encode(), "{path} is not text"),
        (SECRET.encode("utf-16"), "{path} is not text"),
    ],
    ids=["missing", "empty", "blank", "binary", "utf-16"],
)
def test_a_file_without_a_secret_is_named(
    tmp_path: Path, content: bytes | None, message: str
) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableSecret) as caught:
        SecretSource(file="key").read(tmp_path, {})
    assert str(caught.value) == message.format(path=path)


def test_a_folder_is_not_a_secret(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSecret) as caught:
        SecretSource(file=".").read(tmp_path, {})
    assert str(caught.value) == f"cannot read {tmp_path}: Is a directory"


def test_a_path_that_no_file_can_have_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(UnreadableSecret):
        SecretSource(file="a\0b").read(tmp_path, {})


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (SECRET, INLINE),
        ("", INLINE),
        ({}, EITHER),
        ({"file": "a", "env": "B"}, EITHER),
        ({"file": None, "env": None}, EITHER),
    ],
    ids=["inline", "empty-inline", "neither", "both", "both-null"],
)
def test_a_source_is_one_file_or_one_variable(value: object, message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        SecretSource.model_validate(value)
    (detail,) = caught.value.errors()
    assert str(detail["ctx"]["error"]) == message


@pytest.mark.parametrize("value", [SECRET, {"value": SECRET}, [SECRET], {"env": [SECRET]}])
def test_t44_pydantics_own_words_do_not_reach_the_message(value: object) -> None:
    # pydantic keeps the input beside its message; the loader must not show it (test_loading.py).
    with pytest.raises(ValidationError) as caught:
        SecretSource.model_validate(value)
    assert all(SECRET not in detail["msg"] for detail in caught.value.errors())


def test_t44_a_source_shows_where_from_and_never_what(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(SECRET)
    source = SecretSource(file="key")
    source.read(tmp_path, {})
    assert SECRET not in repr(source)
    assert source.model_dump(exclude_none=True) == {"file": "key"}
