#!/usr/bin/env bash
# Make, complete or repair the environment of a host over SSH: setup_remote_env.sh USER@HOST [ROLE]
#
# verl-lab itself does it, from the environment here that setup_local_env.sh made; --help tells more.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../.venv/bin/python}
[[ -x $python || -n ${PYTHON:-} ]] || python=python3

if ! reason=$("$python" -c 'import paramiko, verl_lab' 2>&1); then
    printf 'setup: %s\n' "verl-lab cannot be used by $python: ${reason##*$'\n'}" \
        "Run environments/setup_local_env.sh manager first, or set PYTHON to the Python that has verl-lab." >&2
    exit 1
fi
exec "$python" -m verl_lab.environments "$@"
