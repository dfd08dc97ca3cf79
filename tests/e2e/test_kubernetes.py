"""The manifests for Kubernetes: valid by the schemas of Kubernetes itself, and of one mind with the
configuration in them. A mounted configuration that is swapped as a kubelet does it is taken over.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from gateway.settings.loading import read_source, validate
from gateway.settings.schema import Settings
from tests.support.checking import FILE, check, good
from tests.support.gateways import KEY, SECOND_KEY, GatewayProcess, wait_until
from tests.support.raw import request

MANIFESTS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes"
SECRETS = "/run/secrets/scoring-gateway"


def resource(kind: str) -> Any:
    documents = [
        document
        for path in MANIFESTS.glob("*.yaml")
        for document in yaml.safe_load_all(path.read_text())
        if document["kind"] == kind
    ]
    assert len(documents) == 1
    return documents[0]


def configuration(folder: Path) -> str:
    """The configuration in the manifests, with the secrets in ``folder``."""
    for name, secret in resource("Secret")["stringData"].items():
        (folder / name).write_text(secret)
    text = str(resource("ConfigMap")["data"]["gateway.yaml"])
    assert SECRETS in text
    return text.replace(SECRETS, str(folder))


def settings(folder: Path) -> Settings:
    (folder / FILE).write_text(configuration(folder))
    found, mistakes = validate(read_source(folder / FILE))
    assert found is not None
    assert mistakes == []
    return found


def pod() -> Any:
    return resource("Deployment")["spec"]["template"]["spec"]


def test_the_manifests_are_valid_to_the_letter() -> None:
    program = Path(sys.executable).with_name("kubernetes-validate")
    ended = subprocess.run(
        [program, "--strict", "--quiet", *sorted(MANIFESTS.glob("*.yaml"))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_configuration_in_the_manifests_is_good(tmp_path: Path) -> None:
    assert check(tmp_path, configuration(tmp_path)) == good()


def test_the_pod_fits_its_configuration(tmp_path: Path) -> None:
    found = settings(tmp_path)
    (container,) = pod()["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"http": found.listen.address[1], "admin": found.admin.address[1]}
    times = found.listen.timeouts
    assert pod()["terminationGracePeriodSeconds"] >= times.drain_delay + times.drain + 10
    # Nobody may be sent to a pod that accepts no more: the time until its unreadiness is known.
    ready = container["readinessProbe"]
    assert times.drain_delay > ready["periodSeconds"] * ready["failureThreshold"]
    probes = {container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness")}
    assert probes == {"/readyz"}
    assert found.workers == int(container["resources"]["limits"]["cpu"])
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts == {"/etc/scoring-gateway", SECRETS}
    assert container["args"] == ["serve", "--config", "/etc/scoring-gateway/gateway.yaml"]
    assert resource("Service")["spec"]["ports"][0]["targetPort"] == "http"


def mount(folder: Path, version: int, files: dict[str, str]) -> None:
    """Files as a volume of a ConfigMap or Secret has them: links through `..data`, which is swapped
    for a new folder in one step; the old one is removed."""
    folder.mkdir(exist_ok=True)
    real = folder / f"..version_{version}"
    real.mkdir()
    for name, text in files.items():
        (real / name).write_text(text)
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"..data/{name}")
    before = (folder / "..data").resolve()
    (folder / "..data_tmp").symlink_to(real.name)
    (folder / "..data_tmp").rename(folder / "..data")
    if before.name != "..data":
        for path in before.iterdir():
            path.unlink()
        before.rmdir()


def test_a_swap_of_what_is_mounted_is_a_reload(tmp_path: Path) -> None:
    text = (
        "listen: 127.0.0.1:0\nadmin: 127.0.0.1:0\nendpoints:\n  diabetes:\n"
        f"    auth: {{keys: {{primary: {{file: {tmp_path}/secrets/key}}}}}}\n"
        "    deployments: {blue: {backends: [http://127.0.0.1:1]}}\n"
    )
    mount(tmp_path / "secrets", 1, {"key": KEY})
    mount(tmp_path / "configuration", 1, {FILE: text})
    gateway = GatewayProcess(text, tmp_path)
    gateway.config.unlink()
    gateway.config = tmp_path / "configuration" / FILE

    def asks(key: str, path: str = "/score") -> int:
        return gateway.ask(request(path, key=key)).status

    with gateway:
        assert (asks(KEY), asks(SECOND_KEY)) == (503, 401)
        mount(tmp_path / "secrets", 2, {"key": SECOND_KEY})
        wait_until(lambda: (asks(KEY), asks(SECOND_KEY)) == (401, 503), 15, "the new key")
        other = text.replace("  diabetes:", "  another:")
        mount(tmp_path / "configuration", 2, {FILE: other})
        path = "/api/v1/service/another/score"
        wait_until(lambda: asks(SECOND_KEY, path) == 503, 15, "the new configuration")
        assert gateway.metric("gateway_config_generation") == 3
        assert gateway.complaints() == []
