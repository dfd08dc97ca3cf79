"""The command line."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import click

from gateway import __version__
from gateway.app import judge, plan_demo, serve
from gateway.control.asking import NotAnswered, ask, reachable
from gateway.control.demo import DemoFailed, run_demo
from gateway.control.load_demo import run_load
from gateway.control.samples import BadSample
from gateway.control.supervisor import CannotStart
from gateway.control.verification import VerificationPlan, run_verification
from gateway.core.backends import parse_backend
from gateway.core.rows import LARGEST
from gateway.installation import UnsafeInstallation, check_installation
from gateway.logs import configure_logging
from gateway.manual import manual
from gateway.settings.differences import differences
from gateway.settings.loading import BadConfiguration, Source, read_source, validate
from gateway.settings.notes import Notes
from gateway.settings.schema import Settings, json_schema
from gateway.settings.units import parse_address
from gateway.wiring import describe
from gateway.wiring_tls import Contexts

# Exit statuses: 1 for what went wrong while running, 2 for what the caller got wrong.
_CONFIG = click.option(
    "--config",
    "-c",
    "config",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Configuration file (YAML).",
)
_ADMIN = click.option(
    "--admin",
    metavar="URL",
    help="Where the running gateway's admin port is, such as http://127.0.0.1:9090; by default"
    " where FILE says.",
)
# Seconds that a reload may take: the supervisor waits for its workers for half of that.
_RELOAD = 60.0


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="scoring-gateway")
def main() -> None:
    """A production gateway in front of machine-learning scoring containers.

    It authenticates, routes and balances scoring requests, speaks the wire contract of the Azure
    Machine Learning front end, and exports metrics. Begin with `scoring-gateway demo`.
    """


@main.command("serve", epilog=manual("serve"))
@_CONFIG
def serve_command(config: Path) -> None:
    """Run the gateway until SIGTERM or SIGINT.

    Both let the requests in flight finish: the gateway is unready for
    `listen.timeouts.drain_delay`, then accepts nothing more and waits for at most
    `listen.timeouts.drain`.
    """
    configure_logging()
    try:
        check_installation()
        status = serve(config)
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    except (CannotStart, UnsafeInstallation) as why:
        click.echo(f"scoring-gateway: {why}", err=True)
        sys.exit(1)
    sys.exit(status)


@main.command("check", epilog=manual("check"))
@_CONFIG
def check_command(config: Path) -> None:
    """Judge a configuration file, with secrets and keys, and report every mistake.

    Opens no port and changes nothing. A file that is good here can be served by an installation of
    the same version, if its addresses can be had.
    """
    try:
        judged = judge(config)
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    for line in judged.warnings:
        click.echo(line, err=True)
    backends = sum(
        len(deployment.backends)
        for endpoint in judged.settings.endpoints.values()
        for deployment in endpoint.deployments.values()
    )
    counts = f"{_count(len(judged.settings.endpoints), 'endpoint')}, {_count(backends, 'backend')}"
    click.echo(f"{config}: good ({counts})")


@main.command("reload", epilog=manual("reload"))
@_CONFIG
@_ADMIN
def reload_command(config: Path, admin: str | None) -> None:
    """Have the running gateway read its configuration anew.

    FILE says where it is asked (`admin.address`, with `admin.token`); what is read is the file that
    the gateway was started with. It takes over all of it or, if there is a mistake anywhere,
    nothing: then every mistake is reported. Connections and requests in flight are not touched.
    """
    try:
        source = read_source(config)
        settings, mistakes = validate(source)
        # Mistakes elsewhere are for the gateway to report, which does it with secrets and all.
        if settings is None or not source.is_whole(("admin",)):
            raise BadConfiguration(source, mistakes)
        address, token = _admin_port(settings, source, admin)
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    except ValueError as why:
        _complain("scoring-gateway", str(why))
        sys.exit(2)
    try:
        status, answer = ask(
            address, "/reload", method="POST", token=token, accepted=(200, 422), timeout=_RELOAD
        )
    except NotAnswered as why:
        _complain("scoring-gateway", str(why))
        sys.exit(1)
    if status != HTTPStatus.OK:
        for line in answer["problems"]:
            click.echo(line, err=True)
        click.echo(f"nothing has changed, generation {answer['generation']} serves on", err=True)
        sys.exit(1)
    click.echo(f"reloaded: generation {answer['generation']} serves")


@main.command("diff", epilog=manual("diff"))
@_CONFIG
@click.option(
    "--against",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="OLD",
    help="Another file, instead of the running gateway.",
)
@_ADMIN
def diff_command(config: Path, against: Path | None, admin: str | None) -> None:
    """Show what a configuration file would change.

    Compares it with what the running gateway has in effect, defaults included, and shows every
    difference by its keys: added, removed, or old -> new. Sources of secrets are never shown, and
    contents of files that the configuration names are not compared. `check` judges a file more
    thoroughly.
    """
    if against is not None and admin is not None:
        raise click.UsageError("--against and --admin are two different things to compare with")
    try:
        settings, source = _shape(config)
        if against is not None:
            old = describe(_shape(against)[0])
        else:
            old = _running(settings, source, admin)
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    except (NotAnswered, ValueError) as why:
        _complain("scoring-gateway", str(why))
        sys.exit(2)
    found = [difference.render() for difference in differences(old, describe(settings))]
    for line in found:
        click.echo(line)
    sys.exit(1 if found else 0)


@main.command("verify-batching", epilog=manual("verify-batching"))
@_CONFIG
@click.option("--endpoint", required=True, metavar="NAME", help="Endpoint of the configuration.")
@click.option("--deployment", metavar="NAME", help="Its deployment, if there are several.")
@click.option(
    "--sample",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Requests to score: one a line, or one JSON document with several rows.",
)
@click.option(
    "--tolerance",
    type=click.FloatRange(0, 0.1),
    metavar="X",
    help="Relative difference of numbers to overlook; that of the configuration if absent.",
)
@click.option("--backend", metavar="URL", help="Another container than those of the configuration.")
def verify_batching_command(
    config: Path,
    endpoint: str,
    deployment: str | None,
    sample: Path,
    tolerance: float | None,
    backend: str | None,
) -> None:
    """Find out whether merging requests changes the answers of a model.

    Scores the sample at the deployment's containers, directly, each request alone (twice) and
    merged with others in many ways, and compares the answers.
    """
    try:
        plan = _plan_verification(config, endpoint, deployment, backend)
        text = sample.read_bytes()
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    except (LookupError, ValueError, OSError) as why:
        _complain("scoring-gateway", str(why.args[-1]))
        sys.exit(2)
    if tolerance is not None:
        plan = replace(plan, tolerance=tolerance)
    try:
        safe = run_verification(plan, text, click.echo)
    except BadSample as why:
        _complain(str(sample), str(why))
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0 if safe else 1)


@main.command("demo", epilog=manual("demo"))
@click.option("--check", is_flag=True, help="Score once, stop everything and exit 0 or 1.")
@click.option(
    "--load",
    "with_load",
    is_flag=True,
    help="Show requests per second without and with batching, and stop.",
)
@click.option(
    "--config",
    "-c",
    "config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Another configuration for the demo, such as one with other ports.",
)
def demo_command(check: bool, with_load: bool, config: Path | None) -> None:
    """Show the gateway in front of two real scoring containers, all on loopback.

    Trains a model, starts the containers and the gateway, sends the request of the Azure ML guide,
    prints calls to paste, and serves until Ctrl-C. Needs `pip install '.[demo]'` in the checkout.
    """
    if check and with_load:
        raise click.UsageError("--check and --load are two different demos")
    try:
        plan = plan_demo(config)
        if with_load:
            run_load(plan, click.echo, _replace_line if is_terminal() else None)
        else:
            run_demo(plan, click.echo, check)
    except BadConfiguration as report:
        _report(report)
        sys.exit(2)
    except (CannotStart, DemoFailed) as why:
        click.echo(f"scoring-gateway: {why}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


@main.command("schema", epilog=manual("schema"))
def schema_command() -> None:
    """Print the JSON Schema of the configuration file, for editors."""
    click.echo(json.dumps(json_schema(), indent=2))


def _plan_verification(
    config: Path, endpoint: str, deployment: str | None, backend: str | None
) -> VerificationPlan:
    """What is to be verified. Secrets are not needed and not read, unless backends ask for a
    certificate.

    :param deployment: None for the only one that there is.
    :param backend: the URL of another container than those of the deployment.
    :raises BadConfiguration: with everything that is wrong with the file.
    :raises LookupError: no such endpoint or deployment; the message says which there are.
    :raises ValueError: the backend is none.
    """
    settings, source = _shape(config)
    endpoint = _choose("endpoint", settings.endpoints, endpoint)
    found = settings.endpoints[endpoint]
    deployment = _choose("deployment", found.deployments, deployment)
    chosen = found.deployments[deployment]
    batching = chosen.batching
    backends = [parse_backend(url) for url in ([backend] if backend else chosen.backends)]
    notes = Notes(source, os.environ)
    at = ("endpoints", endpoint, "deployments", deployment, "tls")
    entry = chosen.tls if any(each.secure for each in backends) else None
    encryptions = Contexts(notes, None).towards(at, entry, backends)
    if notes.mistakes:
        raise BadConfiguration(source, notes.mistakes)
    return VerificationPlan(
        deployment=f"{endpoint}/{deployment}",
        mode=batching.mode,
        backends=backends,
        field=tuple(batching.field.split(".")),
        max_rows=batching.max_rows,
        max_bytes=batching.max_bytes,
        largest=min(batching.max_bytes, settings.listen.limits.json_buffer, LARGEST),
        tolerance=batching.tolerance,
        timeout=found.timeout,
        encryptions=encryptions,
    )


def _shape(config: Path) -> tuple[Settings, Source]:
    """A file, as far as it can be judged without secrets, keys and other files.

    :raises BadConfiguration: with everything that is wrong with it.
    """
    source = read_source(config)
    settings, mistakes = validate(source)
    if mistakes or settings is None:
        raise BadConfiguration(source, mistakes)
    return settings, source


def _running(settings: Settings, source: Source, admin: str | None) -> Any:
    """What a running gateway has in effect.

    :raises NotAnswered: it cannot be asked.
    :raises ValueError: see ``_admin_port``.
    """
    address, token = _admin_port(settings, source, admin)
    return ask(address, "/config", token=token)[1]


def _admin_port(
    settings: Settings, source: Source, admin: str | None
) -> tuple[tuple[str, int], str | None]:
    """Where a running gateway's admin port is, and the token for it.

    :param settings: say both.
    :param admin: another place of the port, as a URL.
    :raises ValueError: there is no such place, or the token cannot be read.
    """
    address = reachable(settings.admin.address)
    if admin is not None:
        try:
            address = parse_address(admin.removeprefix("http://").rstrip("/"))
        except ValueError:
            raise ValueError("--admin: expected a URL such as http://127.0.0.1:9090") from None
    token = settings.admin.token.read(source.base) if settings.admin.token is not None else None
    return address, token


def _choose(kind: str, names: Collection[str], name: str | None) -> str:
    if name is None and len(names) == 1:
        return next(iter(names))
    if name is None or name not in names:
        wrong = f"say which {kind}" if name is None else f"no {kind} is called {name!r}"
        raise LookupError(f"{wrong}: there are {', '.join(names)}")
    return name


def _report(report: BadConfiguration) -> None:
    for line in report.lines:
        click.echo(line, err=True)
    click.echo(_count(len(report.lines), "mistake"), err=True)


def is_terminal() -> bool:
    return sys.stdout.isatty()


def _replace_line(text: str) -> None:
    """Show a text at the place of the line that the cursor is in."""
    click.echo(f"\r{text}\033[K", nl=False, color=True)


def _complain(what: str, why: str) -> None:
    for line in why.splitlines():
        click.echo(f"{what}: {line}", err=True)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
