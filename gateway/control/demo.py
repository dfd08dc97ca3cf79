"""The demo: a trained model, two real scoring containers and the gateway in front of them.

Everything it starts runs on loopback and is stopped with it.
"""

from __future__ import annotations

import errno
import http.client
import json
import re
import secrets
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from gateway.control.children import Child, Children, Interruption
from gateway.core.backends import Backend

Say = Callable[[str], None]

NEEDED = ("sklearn", "joblib", "azureml_inference_server_http", "inference_schema", "gunicorn")
START_TIMEOUT = 60.0
# Of the log of what does not start: enough for a traceback.
LOG_LINES = 20

_RAISED = re.compile(r"Traceback \(most recent call last\):\n(?:[ \t].*\n)*(\S.*)")
_CAUSED = "The above exception was the direct cause of the following exception"

# The request of the guide: two patients of scikit-learn's diabetes data.
ROWS = [
    [
        0.0199132141783263, 0.0506801187398187, 0.104808689473925, 0.0700725447072635,
        -0.0359677812752396, -0.0266789028311707, -0.0249926566315915, -0.00259226199818282,
        0.00371173823343597, 0.0403433716478807,
    ],
    [
        -0.0127796318808497, -0.044641636506989, 0.0606183944448076, 0.0528581912385822,
        0.0479653430750293, 0.0293746718291555, -0.0176293810234174, 0.0343088588777263,
        0.0702112981933102, 0.00720651632920303,
    ],
]  # fmt: skip


class DemoFailed(Exception):
    """The demo cannot go on; the message is one sentence for whoever started it."""


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Where everything is, as the demo's configuration file says."""

    config: Path
    score_script: Path
    endpoint: str
    public: tuple[str, int]
    admin: tuple[str, int]
    backends: Sequence[tuple[str, int]]

    @property
    def scoring_path(self) -> str:
        return f"/api/v1/service/{self.endpoint}/score"

    @property
    def scoring_uri(self) -> str:
        return f"http://{Backend(*self.public).name}{self.scoring_path}"


@dataclass(frozen=True, slots=True)
class Stage:
    """What is there before a gateway is started: a folder with the model, and the containers."""

    folder: Path
    containers: Sequence[Child]
    children: Children
    interruption: Interruption


def run_demo(plan: DemoPlan, say: Say, check: bool) -> None:
    """Start everything, score, and serve until interrupted (or, with ``check``, stop at once).

    :raises DemoFailed: something will not start, or does not answer as it should.
    :raises KeyboardInterrupt: a signal came before it served; nothing is left of it.
    """
    with set_stage(plan, say) as stage:
        say("Starting the gateway ...")
        key = secrets.token_hex(16)
        gateway = start_gateway(stage.children, plan.config, stage.folder, key)
        with stage.interruption.allowed():
            await_ready(gateway, plan.admin, "/readyz", "the gateway", say)
            _score(plan, key, say)
            say(f"  batching {batching_of(plan)}")
        if check:
            return
        _show_calls(plan, key, say)
        with suppress(KeyboardInterrupt), stage.interruption.allowed():
            _wait([gateway, *stage.containers])


@contextmanager
def set_stage(plan: DemoPlan, say: Say) -> Iterator[Stage]:
    """The containers, ready to score; everything is stopped in the end."""
    _check_dependencies()
    for address in (plan.public, plan.admin, *plan.backends):
        _check_free(address)
    with (
        Interruption() as interruption,
        tempfile.TemporaryDirectory(prefix="scoring-gateway-") as name,
        Children() as children,
    ):
        folder = Path(name)
        say("Training a Ridge model on scikit-learn's diabetes data ...")
        with interruption.allowed():
            train(folder)
        names = ", ".join(Backend(*at).name for at in plan.backends)
        say(f"Starting {len(plan.backends)} scoring containers on {names} ...")
        containers = [_start_container(children, plan, folder, at) for at in plan.backends]
        with interruption.allowed():
            for number, (container, at) in enumerate(zip(containers, plan.backends, strict=True)):
                await_ready(container, at, "/", f"scoring container {number + 1}", say)
        yield Stage(folder, containers, children, interruption)


def train(folder: Path) -> None:
    """Fit the guide's model and put it where the entry script looks for it."""
    import joblib
    from sklearn.datasets import load_diabetes
    from sklearn.linear_model import Ridge

    data = load_diabetes()
    joblib.dump(Ridge().fit(data.data, data.target), folder / "sklearn_regression_model.pkl")


def container_command(address: tuple[str, int]) -> list[str]:
    """The real scoring container under gunicorn, bound to loopback (contract.md 2.1)."""
    return [
        sys.executable, "-m", "gunicorn", "--bind", Backend(*address).name,
        "--workers", "1", "--timeout", "300", "--no-control-socket",
        "azureml_inference_server_http.server.entry:app",
    ]  # fmt: skip


def container_environment(folder: Path, script: Path, name: str) -> dict[str, str]:
    return {
        "AML_APP_ROOT": str(script.parent),
        "AZUREML_ENTRY_SCRIPT": script.name,
        "AZUREML_MODEL_DIR": str(folder),
        "SERVICE_NAME": name,
        "SERVICE_PATH_PREFIX": f"api/v1/service/{name}",
    }


def last_words(log: str) -> str:
    """The line of a log that says why a program ended: the last one, as a rule."""
    last = log.rpartition("\n")[2].strip()
    if not last.endswith("Worker failed to boot."):
        return last or "it said nothing"
    # Gunicorn does not know why. The container wrote it before, as a chain of exceptions that
    # begins with that of the entry script; exceptions that it survived come earlier still.
    why, end = last, 0
    for raised in _RAISED.finditer(log):
        if _CAUSED not in log[end : raised.start()]:
            why = raised[1].strip()
        end = raised.end()
    return why


def _start_container(
    children: Children, plan: DemoPlan, folder: Path, at: tuple[str, int]
) -> Child:
    environment = container_environment(folder, plan.score_script, plan.endpoint)
    log = folder / f"container-{at[1]}.log"
    return children.start(container_command(at), environment, plan.score_script.parent, log)


def start_gateway(children: Children, config: Path, folder: Path, key: str) -> Child:
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config)]
    keys = {"DEMO_PRIMARY_KEY": key, "DEMO_SECONDARY_KEY": secrets.token_hex(16)}
    return children.start(command, keys, config.parent, folder / "gateway.log")


def _check_dependencies() -> None:
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise DemoFailed(
            f"the demo needs {', '.join(missing)}: install them with "
            "`pip install '.[demo]'` in the checkout"
        )


def _check_free(address: tuple[str, int]) -> None:
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server(address, family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise DemoFailed(
                f"port {port} on {host} is in use: stop what runs there, or change the port in the "
                "demo's configuration file"
            ) from None
        why = error.strerror or str(error)
        raise DemoFailed(f"cannot listen on {Backend(host, port).name}: {why}") from None


def _ask(
    address: tuple[str, int],
    path: str,
    body: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 2.0,
) -> tuple[http.client.HTTPResponse, bytes]:
    """The answer and its body. Unlike urllib's, the request goes round a proxy of the environment,
    which could not reach this machine and must not see the key.

    :raises OSError: there is no answer; the message says why.
    """
    with closing(http.client.HTTPConnection(*address, timeout=timeout)) as connection:
        try:
            connection.request("POST" if body else "GET", path, body, headers or {})
            answer = connection.getresponse()
            return answer, answer.read()
        except http.client.HTTPException as error:
            raise OSError(f"the answer is not HTTP: {error!r}") from None


def await_ready(child: Child, address: tuple[str, int], path: str, name: str, say: Say) -> None:
    """Wait until ``path`` answers 200."""
    give_up = time.monotonic() + START_TIMEOUT
    while time.monotonic() < give_up:
        if child.ended:
            raise _failed(child, f"{name} did not start", say)
        with suppress(OSError):
            if _ask(address, path)[0].status == 200:
                return
        time.sleep(0.1)
    raise _failed(child, f"{name} did not become ready within {START_TIMEOUT:g} s", say)


def _failed(child: Child, what: str, say: Say) -> DemoFailed:
    """What to raise, after the end of the child's log was shown: its folder will be deleted."""
    log = child.output()
    lines = log.splitlines()[-LOG_LINES:]
    if len(lines) > 1:
        say("\n".join(["The end of its log:", *(f"  {line}" for line in lines)]))
    return DemoFailed(f"{what}: {last_words(log)}")


def _score(plan: DemoPlan, key: str, say: Say) -> None:
    body = json.dumps({"data": ROWS})
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    try:
        answer, text = _ask(plan.public, plan.scoring_path, body, headers, timeout=30)
    except OSError as error:
        raise DemoFailed(f"scoring through the gateway failed: {error}") from None
    if answer.status != 200:
        why = f"HTTP Error {answer.status}: {answer.reason}"
        raise DemoFailed(f"scoring through the gateway failed: {why}")
    try:
        predictions = json.loads(text)
    except ValueError:
        predictions = None
    if not isinstance(predictions, list) or len(predictions) != len(ROWS):
        raise DemoFailed(
            f"the container did not answer with {len(ROWS)} predictions: {text[:1000]!r}"
        )
    say("")
    say(f"Predictions: {text.decode()}")
    say(
        f"  deployment {answer.headers['azureml-model-deployment']}, "
        f"id {answer.headers['x-ms-request-id']}"
    )


def batching_of(plan: DemoPlan) -> str:
    """What the running gateway says of batching at the endpoint: the mode, and how far it goes."""
    answer, text = _ask(plan.admin, "/deployments")
    if answer.status != 200:
        return "unknown"
    deployments: dict[str, Any] = json.loads(text)[plan.endpoint]
    batching = next(iter(deployments.values()))["batching"]
    mode = str(batching["mode"])
    return f"{mode}, at most {batching['max_rows']} rows a call" if mode == "on" else mode


def _show_calls(plan: DemoPlan, key: str, say: Say) -> None:
    """Calls to paste. They go round a proxy of the environment, as those of the demo do."""
    body = json.dumps({"data": ROWS[:1]})
    say(f"""
Try it yourself:

curl -s --noproxy '*' {plan.scoring_uri} \\
  -H 'Content-Type: application/json' \\
  -H 'Authorization: Bearer {key}' \\
  -d '{body}'

python3 - <<'EOF'
import json, urllib.request
request = urllib.request.Request(
    "{plan.scoring_uri}",
    json.dumps({body}).encode(),
    {{"Content-Type": "application/json", "Authorization": "Bearer {key}"}},
)
direct = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
print(json.load(direct.open(request)))
EOF

Metrics: http://{Backend(*plan.admin).name}/metrics   Configuration: {plan.config}
Serving. Press Ctrl-C to stop everything.""")


def _wait(children: Sequence[Child]) -> None:
    """Until interrupted, or until something that should run does not."""
    while True:
        for child in children:
            if child.ended:
                raise ended_early(child)
        time.sleep(0.5)


def ended_early(child: Child) -> DemoFailed:
    return DemoFailed(f"a process ended by itself: {last_words(child.output())}")
