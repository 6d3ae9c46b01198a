#!/usr/bin/env bash
# Make, complete or repair the environment of one role: setup_local_env.sh ROLE [--venv DIR]
#
# This part finds what must be there before anything can be installed; install.py does the rest.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
right='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))'

fail() {
    printf 'setup: %s\n' "$@" >&2
    exit 1
}

find_python() {
    local candidate
    # The user's own python3 first: under pyenv, conda or a module system it is the one they chose.
    for candidate in ${PYTHON:+"$PYTHON"} ${PYTHON:-python3 python3.12 python3.11 python3.10 python}; do
        if "$candidate" -c "$right" >/dev/null 2>&1; then
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [[ -n ${PYTHON:-} ]] && ! command -v "$PYTHON" >/dev/null; then
        fail "PYTHON=$PYTHON does not exist or cannot be run."
    elif [[ -n ${PYTHON:-} ]]; then
        fail "PYTHON=$PYTHON is $("$PYTHON" --version 2>&1 || true); verl-lab needs Python 3.10, 3.11 or 3.12."
    fi
    fail "verl-lab needs Python 3.10, 3.11 or 3.12, and none is on the PATH." \
        "Install one (Debian, Ubuntu: apt-get install python3 python3-venv), or set PYTHON=/path/to/python3.11."
}

case " ${*:-} " in
    "  " | *" -h "* | *" --help "*)
        exec "$(find_python)" "$here/install.py" --help
        ;;
esac

python=$(find_python)
"$python" -c 'import ensurepip, venv' >/dev/null 2>&1 ||
    fail "$python has no venv module. Install it (Debian, Ubuntu: apt-get install python3-venv)."
for tool in git make "${CC:-cc}"; do
    command -v "$tool" >/dev/null ||
        fail "$tool is not on the PATH. Install it (Debian, Ubuntu: apt-get install git make gcc)."
done

exec "$python" "$here/install.py" "$@"
