#!/bin/sh
# Makes sure that programs from Debian are there: installs them where that is possible without
# asking, says what is missing where it is not. Tests that need a missing program are skipped by name,
# unless REQUIRE_TOOLS is set. A word is the name of a program and of its package, or `program:package`.
set -eu

missing=""
for tool in "$@"; do
    command -v "${tool%:*}" >/dev/null 2>&1 || missing="$missing ${tool#*:}"
done
[ -n "$missing" ] || exit 0

if command -v apt-get >/dev/null 2>&1; then
    run=""
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null && run="sudo -n"
    fi
    if [ "$(id -u)" -eq 0 ] || [ -n "$run" ]; then
        echo "installing from Debian:$missing"
        # shellcheck disable=SC2086  # a list of words on purpose
        { $run apt-get update -qq &&
            $run env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends \
                $missing >/dev/null; } || true
    fi
fi

for tool in "$@"; do
    if ! command -v "${tool%:*}" >/dev/null 2>&1; then
        echo "not there: ${tool%:*} (install the Debian package ${tool#*:})" >&2
        [ -z "${REQUIRE_TOOLS:-}" ] || exit 1
    fi
done
