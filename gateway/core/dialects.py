"""The two dialects of the Azure ML front end: which status a client sees (contract.md 1.3)."""

from __future__ import annotations

from gateway.core.faults import Answer, Fault, Row


class Dialect:
    """``v1`` (AKS, ACI) or ``managed`` (online endpoints v2)."""

    __slots__ = ("_wraps", "name", "statuses")

    def __init__(self, name: str) -> None:
        if name not in NAMES:
            raise ValueError(f"no dialect {name!r}; have {', '.join(NAMES)}")
        self.name = name
        self._wraps = name == "managed"
        #: What the client sees when the container answered a status. v1 passes everything through
        #: except 500, which becomes 502; managed wraps every status but 200 into 424.
        self.statuses = {code: self._status(code) for code in range(200, 600)}

    def __repr__(self) -> str:
        return f"<Dialect {self.name}>"

    def answer(self, fault: Fault) -> Answer:
        """What this dialect says to ``fault``."""
        row: Row = fault.value
        return row.managed if self._wraps else row.v1

    def _status(self, model_status: int) -> int:
        if self._wraps:
            return 200 if model_status == 200 else 424
        return 502 if model_status == 500 else model_status

    def model_error_headers(self, model_status: int) -> bytes:
        """Header lines that tell the container's own status, empty where the dialect has none."""
        if not self._wraps or model_status == 200:
            return b""
        return error_headers(model_status, "model_error")


def error_headers(model_status: int, reason: str) -> bytes:
    """``ms-azureml-model-error-*`` lines, each ended by CRLF (contract.md 1.4)."""
    if not reason:
        return b""
    return (
        f"ms-azureml-model-error-statuscode: {model_status}\r\n"
        f"ms-azureml-model-error-reason: {reason}\r\n"
    ).encode("ascii")


NAMES = ("v1", "managed")
V1 = Dialect("v1")
MANAGED = Dialect("managed")
