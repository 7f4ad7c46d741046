#!/bin/sh
# Make a virtual environment: make_venv.sh TARGET [PYTHON]
# Without PYTHON, the first of the interpreters below that runs and is new enough is taken.
set -eu

target=$1
candidates=${2:-python3.13 python3.12 python3.11 python3 python}

for python in $candidates; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        echo "making the virtual environment $target with $("$python" --version)"
        if "$python" -m venv "$target"; then
            exit 0
        fi
        rm -rf "$target"
        echo "$python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
        exit 1
    fi
done

echo "no Python 3.11 or newer was found (tried: $candidates); install one, or name it: make PYTHON=/path/to/python3" >&2
exit 1
