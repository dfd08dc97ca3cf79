"""What ``--help`` says below the options: exit statuses, signals, files, environment, examples."""

from __future__ import annotations

from collections.abc import Mapping

# By command, by heading. Lines are shown as they are here.
SECTIONS: Mapping[str, Mapping[str, str]] = {
    "serve": {
        "Processes": """
            One process supervises and has the admin port; `workers` others serve requests. Signals
            are for the supervisor, which is the process that was started.
        """,
        "Signals": """
            SIGTERM, SIGINT  finish what is in flight and end; a second one ends everything at once
            SIGHUP           read the configuration anew, as `scoring-gateway reload` does
        """,
        "Exit status": """
            0    ended after SIGTERM, SIGINT or a takeover, and nothing was cut off
            1    it could not start, or connections had to be cut off when the time was up
            2    the configuration has mistakes; all of them are reported
            130  ended by a second SIGINT
            143  ended by a second SIGTERM
        """,
        "Files": """
            FILE and those that it names are read at the start, and again when they change.
            Relative paths start from the folder of FILE. Nothing is written but the access log,
            if it goes to a file, and the socket for takeovers.
        """,
        "Environment": """
            NAME of {env: NAME}           secrets; they are those of the start
            NOTIFY_SOCKET, WATCHDOG_USEC  systemd is told of states, and that all is well
            LISTEN_FDS, LISTEN_PID        listening sockets that systemd passes
        """,
        "Output": """
            Standard output gets the access log, one JSON line for each request, unless it goes
            elsewhere. Standard error gets events, one JSON line each; why the gateway does not
            start is said in plain words.
        """,
        "Examples": """
            scoring-gateway serve --config gateway.yaml
            scoring-gateway serve --config gateway.yaml >>access.log 2>>events.log
        """,
    },
    "check": {
        "Exit status": """
            0    the file can be served
            2    it cannot; every mistake is a line on standard error
        """,
        "Environment": """
            NAME of {env: NAME}  has to be set, as for `serve`
        """,
        "Examples": """
            scoring-gateway check --config gateway.yaml
        """,
    },
    "reload": {
        "Exit status": """
            0    the configuration is in effect in all workers
            1    it was refused, every mistake is a line on standard error; or nobody answers
            2    FILE does not tell where to ask
        """,
        "Notes": """
            An `admin.address` or `admin.token` that changes with the file is in effect only after
            the reload. SIGHUP to the supervisor needs neither.
        """,
        "Examples": """
            scoring-gateway reload --config gateway.yaml
            scoring-gateway reload --config gateway.yaml --admin http://127.0.0.1:9090
        """,
    },
    "diff": {
        "Exit status": """
            0    nothing would change
            1    something would
            2    that cannot be told: FILE is broken, or nobody could be asked
        """,
        "Examples": """
            scoring-gateway diff --config gateway.yaml
            scoring-gateway diff --config gateway.yaml --against old.yaml
        """,
    },
    "verify-batching": {
        "Exit status": """
            0    merging is safe for this sample
            1    it is not, or that could not be found out
            2    the call, the configuration or the sample has a mistake
        """,
        "Examples": """
            scoring-gateway verify-batching -c gateway.yaml --endpoint diabetes --sample rows.jsonl
        """,
    },
    "demo": {
        "Exit status": """
            0    ended by itself (--check, --load)
            1    it could not be shown, or --check failed
            2    the configuration has mistakes
            130  ended by Ctrl-C
        """,
        "Examples": """
            scoring-gateway demo
            scoring-gateway demo --load
        """,
    },
    "schema": {
        "Exit status": """
            0    always
        """,
        "Examples": """
            scoring-gateway schema > scoring-gateway.schema.json
        """,
    },
}


def manual(command: str) -> str:
    """The sections of a command, for click, which leaves paragraphs after ``\\b`` as they are."""
    paragraphs: list[str] = []
    for heading, text in SECTIONS[command].items():
        lines = [f"  {line.strip()}" for line in text.strip().splitlines()]
        paragraphs.append("\n".join(["\b", f"{heading}:", *lines]))
    return "\n\n".join(paragraphs)
