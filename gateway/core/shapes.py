"""Answer heads recognised by example.

A backend builds every head the same way; only a few values change. Confirming that a head is like
one that was read before costs a third of reading it again. So a head that was read in full becomes
a regular expression: what is constant stands for itself, what is known to change (or was seen to)
is a strict character class. A head that fits is, byte for byte, one that the full parser would have
accepted, with the same meaning.
"""

from __future__ import annotations

import re

from gateway.core.replies import Reply, parse_reply_head

# Values that change with every answer. Anything else is taken for constant until it differs.
_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_CHANGING = frozenset(
    (
        b"date",
        b"x-request-id",
        b"x-ms-request-id",
        b"x-ms-client-request-id",
        b"x-ms-run-fn-exec-ms",
    )
)
# What these say matters beyond their line: with another value, it is another kind of head.
_MEANINGFUL = frozenset((b"connection", b"proxy-connection", b"vary"))
# Heads whose meaning lies in more than their lines: they are read in full every time.
_PLAIN_STATUSES = frozenset(range(200, 600)) - {204, 304}

# Shapes kept per backend: an answer, a few kinds of error.
MAX_SHAPES = 4
# Compiling an expression costs as much as reading fifty heads. A backend that invents fields would
# make us compile for ever, so it gets this many chances.
MAX_LESSONS = 32
MAX_SIZE = 2048


class _Shape:
    """One kind of head: the expression that recognises it, and the lines that are passed on, with
    ``%b`` where a value changes."""

    __slots__ = ("_close", "_groups", "_length_group", "_status", "_template", "match", "names")

    def __init__(self, raw: bytes, model: Reply, varying: frozenset[bytes]) -> None:
        lines = raw[:-2].splitlines(True)
        passed_on = set(model.lines)
        pattern = [re.escape(lines[0])]
        template: list[bytes] = []
        groups: list[int] = []
        group = 0
        for line in lines[1:]:
            name, _ = _split(line)
            spelling = line[: len(name) + 1]
            if name == b"content-length":
                group += 1
                self._length_group = group
                pattern.append(re.escape(spelling) + rb"[ \t]*(\d{1,15})[ \t]*\r\n")
            elif name not in varying:
                pattern.append(re.escape(line))
                if line in passed_on:
                    template.append(line.replace(b"%", b"%%"))
            elif line in passed_on:
                group += 1
                groups.append(group)
                pattern.append(re.escape(spelling) + b"(" + _TEXT + rb")\r\n")
                template.append(spelling.replace(b"%", b"%%") + b"%b\r\n")
            else:
                pattern.append(re.escape(spelling) + _TEXT + rb"\r\n")
        self.match = re.compile(b"".join(pattern) + rb"\r\n").fullmatch
        self.names = _names(lines)
        self._template = b"".join(template)
        self._groups = tuple(groups)
        self._status = model.status
        self._close = model.close

    def reply(self, match: re.Match[bytes]) -> Reply:
        """What a head that matched says."""
        reply = Reply(self._status)
        reply.length = int(match[self._length_group])
        if self._close:
            reply.close = True
        values = match.group(*self._groups) if self._groups else ()
        reply.lines.append(self._template % values)
        return reply


class ReplyShapes:
    """The kinds of heads that one backend was seen to send."""

    __slots__ = ("_last", "_lessons", "_shapes")

    def __init__(self) -> None:
        self._shapes: list[_Shape] = []
        self._lessons = 0
        #: The last head that was read in full, to tell what changes.
        self._last: dict[tuple[bytes, ...], dict[bytes, bytes]] = {}

    def __repr__(self) -> str:
        return f"<ReplyShapes {len(self._shapes)}, after {self._lessons} lessons>"

    def recognise(self, raw: bytes) -> Reply | None:
        """The meaning of a head of a known kind, None for any other.

        :param raw: from the status line up to and including the empty line.
        """
        for shape in self._shapes:
            match = shape.match(raw)
            if match is not None:
                return shape.reply(match)
        return None

    def learn(self, raw: bytes) -> None:
        """Take a head that llhttp and ``parse_reply_head`` accepted as an example."""
        if self._lessons >= MAX_LESSONS or len(raw) > MAX_SIZE:
            return
        model = parse_reply_head(raw)
        if (
            model.status not in _PLAIN_STATUSES
            or model.length < 0
            or model.locations
            or model.cors_lines
            or model.nominated
        ):
            return
        lines = raw[:-2].splitlines(True)
        names = _names(lines)
        if len(set(names)) != len(names):
            return  # repeated fields are rare, and which one changes is not worth finding out
        self._lessons += 1
        values = dict(_split(line) for line in lines[1:])
        before = self._last.get(names, values)
        varying = frozenset(n for n in values if n in _CHANGING or before.get(n) != values[n])
        known = [shape for shape in self._shapes if shape.names != names]
        if len(known) == len(self._shapes) and len(known) >= MAX_SHAPES:
            known.pop()
        self._last = {shape.names: self._last[shape.names] for shape in known}
        self._last[names] = {
            name: value if name not in varying else b"\0" for name, value in values.items()
        }
        self._shapes = [_Shape(raw, model, varying), *known]


def _names(lines: list[bytes]) -> tuple[bytes, ...]:
    """What makes two heads the same kind: the status line and the names, in order."""
    names = [lines[0]]
    for line in lines[1:]:
        name, _ = _split(line)
        names.append(line if name in _MEANINGFUL else name)
    return tuple(names)


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.lower(), value
