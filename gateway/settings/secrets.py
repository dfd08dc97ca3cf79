"""Secrets come from files or the environment; the configuration only says where from."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, model_validator

MIN_KEY = 16


class UnreadableSecret(ValueError):
    """The secret is not where the configuration says. The message never contains one."""


class SecretSource(BaseModel):
    """Where a secret is read from: exactly one of ``file`` and ``env``."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, json_schema_extra={"examples": [{"env": "NAME"}]}
    )

    file: str | None = Field(None, description="Path of a file; white space around it is cut.")
    env: str | None = Field(None, description="Name of an environment variable.")

    @model_validator(mode="before")
    @classmethod
    def _refuse_inline(cls, value: object) -> object:
        if isinstance(value, str):
            # The text itself must not be repeated anywhere: it may well be the secret.
            raise ValueError(
                "a secret must not stand in the configuration: say {file: PATH} or {env: NAME}"
            )
        return value

    @model_validator(mode="after")
    def _exactly_one(self) -> SecretSource:
        if (self.file is None) == (self.env is None):
            raise ValueError("say either {file: PATH} or {env: NAME}")
        return self

    def read(
        self,
        base: Path,
        environment: Mapping[str, str] = os.environ,
        read_bytes: Callable[[Path], bytes] = Path.read_bytes,
    ) -> str:
        """The secret.

        :param base: folder that relative paths start from.
        :param read_bytes: the content of a file.
        :raises UnreadableSecret: missing, unreadable or empty.
        """
        if self.env is not None:
            return self._variable(self.env, environment)
        path = base / (self.file or "")
        try:
            text = read_bytes(path).decode("utf-8").strip()
        except OSError as error:
            raise UnreadableSecret(f"cannot read {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise UnreadableSecret(f"{path} is not text") from None
        except ValueError:
            raise UnreadableSecret(f"{str(path)!r} is not the path of a file") from None
        if not text:
            raise UnreadableSecret(f"{path} is empty")
        return text

    @staticmethod
    def _variable(name: str, environment: Mapping[str, str]) -> str:
        try:
            text = environment.get(name)
        except ValueError:  # half a character: no variable can be called that
            text = None
        if text is None:
            raise UnreadableSecret(f"the environment variable {name} is not set")
        if not text.strip():
            raise UnreadableSecret(f"the environment variable {name} is empty")
        return text.strip()
