#!/usr/bin/env bash
# See to a system part that pip cannot install: system_parts.sh chromium
#
# As root on Debian it is installed; elsewhere the command to type is named.
set -euo pipefail

fail() {
    printf 'system parts: %s\n' "$@" >&2
    exit 1
}

has_chromium() {
    local program
    for program in chromium chromium-browser google-chrome google-chrome-stable; do
        command -v "$program" >/dev/null && return 0
    done
    return 1
}

install_chromium() {
    local command=(apt-get install --yes --no-install-recommends chromium fonts-dejavu-core)
    if [[ $(uname -s) != Linux ]] || ! command -v apt-get >/dev/null; then
        fail "The browser tests need Chromium or Chrome on the PATH. Install it, e.g.: brew install --cask chromium" \
            "(macOS) or dnf install chromium (Fedora)."
    fi
    if [[ $(id -u) -ne 0 ]]; then
        fail "The browser tests need Chromium or Chrome on the PATH. Type: sudo ${command[*]}"
    fi
    echo "system parts: installing Chromium for the browser tests"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    "${command[@]}" </dev/null
}

case "${1:-}" in
    chromium)
        has_chromium || install_chromium
        has_chromium || fail "Chromium is still not on the PATH."
        ;;
    *)
        fail "usage: system_parts.sh chromium"
        ;;
esac
