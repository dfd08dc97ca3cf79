"""The grammar of HTTP/1.1 as regular expressions, with the RFC section beside each.

llhttp (httptools) checks header fields; what it leaves to its user is here: the request line, the
host, the request target.
"""

from __future__ import annotations

import re

# RFC 9110 section 5.6.2: token. llhttp accepts it as a header name; we forward fewer (below).
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")

# RFC 9112 section 3: request-line. The target is printable ASCII; its form is checked later.
REQUEST_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/([0-9]\.[0-9])")

# RFC 9112 section 4: status-line, with its CRLF. llhttp lets control characters into the reason.
STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: [\t -~\x80-\xff]*)?\r\n")

# RFC 9110 section 7.2: Host = uri-host [":" port]. Underscore is not a host-name character, but
# container networks use it in names.
HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")

# RFC 9112 section 3.2.2: absolute-form, without user information.
ABSOLUTE_FORM = re.compile(rb"(?i:https?)://([^/?#@]*)((?:[/?#].*)?)")

# RFC 3986 section 3.3, without percent-encoding, empty segments, path parameters and segments that
# begin with a dot: a path that is its own normal form.
PLAIN_PATH = re.compile(rb"(?:/[A-Za-z0-9_~!$&'()*+,:@=-][A-Za-z0-9._~!$&'()*+,:@=-]*)*/?")

# Optional white space around a field value (RFC 9110 section 5.6.3).
OWS = b" \t"


def tokens(value: bytes) -> list[bytes]:
    """Members of a comma-separated list, lower case, without empty ones (RFC 9110 5.6.1)."""
    return [part for part in (p.strip(OWS).lower() for p in value.split(b",")) if part]


def printable(value: bytes, limit: int) -> str:
    """Client bytes for a log or an echo: printable ASCII only, at most ``limit`` characters."""
    text = value[:limit].decode("latin-1")
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if " " <= c <= "~" else "?" for c in text)
