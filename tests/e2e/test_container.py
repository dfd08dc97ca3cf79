"""The gateway as it runs in a container: an unprivileged user, a file system that cannot be written
to, and no process above it that would clean up after it.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.backends import FakeBackend, answering
from tests.support.gateways import GatewayProcess, minimal, wait_until
from tests.support.tools import tool
from tests.support.usage import family

ROOT = Path(__file__).resolve().parents[2]
USER = 10001
# Without any rights, in a file system of its own that is read-only; and as process 1.
PRIVILEGES = ("setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--no-new-privs",
              "--bounding-set=-all", "--inh-caps=-all")  # fmt: skip
FIRST = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def sealed(folder: Path) -> tuple[str, ...]:
    """The command for the read-only file system. Where Python is installed in a folder that is
    closed to others, such as the home of root, the folder is replaced by an open one."""
    script = 'mount -o remount,bind,ro / && exec "$@"'
    python = Path(sys.base_prefix)
    closed = [above for above in (python, *python.parents) if not above.stat().st_mode & 0o001]
    if closed:
        spare = folder / "python"
        spare.mkdir()
        script = (
            f"mount --bind {python} {spare} && mount -t tmpfs -o mode=755 none {closed[-1]} && "
            f"mkdir -p {python} && mount --move {spare} {python} && "
            f"mount -o remount,ro {closed[-1]} && {script}"
        )
    return "unshare", "--mount", "sh", "-c", script, "sh"


def test_the_image_gets_what_it_is_made_of_and_runs_as_the_manifests_say() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    admitted = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}
    copied = {name for line in lines if line.startswith("COPY ") and "--from" not in line
              for name in line.split()[1:-1]}  # fmt: skip
    assert copied == admitted
    assert all((ROOT / name).exists() for name in copied)
    assert f"USER {USER}" in lines
    (pod,) = re.findall(
        r"runAsUser: (\d+)", (ROOT / "deploy/kubernetes/deployment.yaml").read_text()
    )
    assert int(pod) == USER
    (entry,) = [json.loads(line[11:]) for line in lines if line.startswith("ENTRYPOINT ")]
    (arguments,) = [json.loads(line[4:]) for line in lines if line.startswith("CMD ")]
    assert entry == ["scoring-gateway"]
    assert arguments == ["serve", "--config", "/etc/scoring-gateway/gateway.yaml"]


def needs(*command: str) -> None:
    """Skip where the system does not let us."""
    tool("unshare")
    tool("setpriv")
    if subprocess.run([*command, "true"], capture_output=True, check=False).returncode:
        pytest.skip("namespaces are not allowed here")


def test_no_rights_and_no_writable_file_system_are_needed(tmp_path: Path) -> None:
    prefix = (*sealed(tmp_path), *PRIVILEGES)
    needs(*prefix)
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        folder.chmod(0o755)
    with FakeBackend(answering(b"[1]")) as backend:
        text = minimal(backend.url, top="workers: 2")
        with GatewayProcess(text, tmp_path, prefix=prefix) as gateway:
            assert gateway.ask().status == 200
            for pid in family(gateway.process.pid):
                status = Path(f"/proc/{pid}/status").read_text()
                assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
                assert "CapEff:\t0000000000000000" in status
            with pytest.raises(OSError, match="Read-only file system"):
                Path(f"/proc/{gateway.process.pid}/root", "tmp/new").touch()
            gateway.process.send_signal(signal.SIGHUP)
            wait_until(lambda: gateway.metric("gateway_config_generation") == 2, 20, "the reload")
            assert gateway.stop() == 0
        assert gateway.complaints() == []


def test_as_process_one_it_stops_when_told_and_leaves_no_dead_behind(tmp_path: Path) -> None:
    needs(*FIRST)
    with FakeBackend(answering(b"[1]")) as backend:
        text = minimal(backend.url, top="workers: 2")
        with GatewayProcess(text, tmp_path, prefix=FIRST) as gateway:
            # `unshare` waits outside for process 1.
            (supervisor,) = family(gateway.process.pid)[1:2]
            before = family(supervisor)[1:]
            assert len(before) == 2
            for worker in before:
                os.kill(worker, signal.SIGKILL)
            wait_until(lambda: len(set(family(supervisor)[1:]) - set(before)) == 2, 10)
            # What has ended was waited for: it is no child any more, dead or alive.
            assert not set(family(supervisor)) & set(before)
            wait_until(lambda: gateway.admin_get("/readyz")[0] == 200, 10)
            assert gateway.ask().status == 200
            os.kill(supervisor, signal.SIGTERM)
            assert gateway.process.wait(15) == 0
