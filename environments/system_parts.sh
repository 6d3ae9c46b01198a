#!/usr/bin/env bash
# See to a system part that pip cannot install: system_parts.sh chromium|postgresql|sshd|network
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

has_postgresql() {
    command -v postgres >/dev/null && return 0
    compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null
}

has_sshd() {
    command -v sshd >/dev/null || [[ -x /usr/sbin/sshd ]]
}

has_network() {
    # Networks of a test's own are made by root alone, on Linux alone; elsewhere those tests are left out.
    [[ $(uname -s) != Linux || $(id -u) -ne 0 ]] || command -v ip >/dev/null || [[ -x /usr/sbin/ip ]]
}

# install WHAT FOR ELSEWHERE PACKAGE...
install() {
    local what=$1 for=$2 elsewhere=$3
    local command=(apt-get install --yes --no-install-recommends "${@:4}")
    if [[ $(uname -s) != Linux ]] || ! command -v apt-get >/dev/null; then
        fail "$for need $what. Install it, e.g.: $elsewhere"
    fi
    if [[ $(id -u) -ne 0 ]]; then
        fail "$for need $what. Type: sudo ${command[*]}"
    fi
    echo "system parts: installing $what"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update --quiet </dev/null
    "${command[@]}" </dev/null
}

case "${1:-}" in
    chromium)
        has_chromium || install "Chromium or Chrome on the PATH" "The browser tests" \
            "brew install --cask chromium (macOS) or dnf install chromium (Fedora)." chromium fonts-dejavu-core
        has_chromium || fail "Chromium is still not on the PATH."
        ;;
    postgresql)
        has_postgresql || install "the PostgreSQL server" "The database tests" \
            "brew install postgresql (macOS) or dnf install postgresql-server (Fedora)." postgresql
        has_postgresql || fail "The PostgreSQL server is still not to be found."
        ;;
    sshd)
        has_sshd || install "OpenSSH's server" "The tests of remote hosts" \
            "dnf install openssh-server (Fedora); macOS has it." openssh-server
        has_sshd || fail "OpenSSH's server is still not to be found."
        ;;
    network)
        has_network || install "the command ip" "The tests of hosts without internet" \
            "dnf install iproute (Fedora)." iproute2
        has_network || fail "The command ip is still not to be found."
        ;;
    *)
        fail "usage: system_parts.sh chromium|postgresql|sshd|network"
        ;;
esac
