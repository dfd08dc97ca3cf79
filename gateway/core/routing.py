"""Which endpoint a request is for (contract.md 1.1).

v1: ``/api/v1/service/<name>/...`` on any host. v2: any path on a host that the endpoint names.
With a single endpoint, any path on any host. What lies below the prefix, or the whole path in v2,
goes to the container as it is, so that Triton and other containers keep their own trees.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Generic, TypeVar

from gateway.core.faults import Fault, Refusal
from gateway.core.heads import RequestHead

E = TypeVar("E")

V1_PREFIX = b"/api/v1/service/"


class Router(Generic[E]):
    """Finds the endpoint, and the target that its container understands."""

    __slots__ = ("_by_host", "_by_name", "_sole")

    def __init__(self, endpoints: Mapping[str, E], hosts: Mapping[str, Iterable[str]]) -> None:
        """
        :param endpoints: by name.
        :param hosts: host names, without port, of the endpoints that have some.
        """
        self._by_name = {name.encode(): endpoint for name, endpoint in endpoints.items()}
        self._by_host = {
            host.lower().encode(): endpoints[name] for name, own in hosts.items() for host in own
        }
        self._sole = next(iter(endpoints.values())) if len(endpoints) == 1 else None

    def route(self, head: RequestHead) -> tuple[E, bytes, bytes]:
        """The endpoint, the target for its container, and the prefix that was cut off the path.

        :raises Refusal: ``NO_ROUTE``.
        """
        path = head.path
        if path.startswith(V1_PREFIX):
            name, _, below = path[len(V1_PREFIX) :].partition(b"/")
            endpoint = self._by_name.get(name)
            if endpoint is None:
                raise Refusal(Fault.NO_ROUTE)
            return endpoint, b"/" + below + head.query, V1_PREFIX + name
        endpoint = self._by_host.get(host_name(head.host or b"")) or self._sole
        if endpoint is None:
            raise Refusal(Fault.NO_ROUTE)
        return endpoint, path + head.query, b""


def host_name(host: bytes) -> bytes:
    """The name in a ``Host`` value: lower case, without port and trailing dot."""
    name = host.lower()
    if not name.endswith(b"]"):
        name, colon, port = name.rpartition(b":")
        if not colon:
            name = port
    return name.removesuffix(b".")
