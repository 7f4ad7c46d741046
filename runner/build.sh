#!/bin/sh
# Build the runner: sh runner/build.sh OUTPUT. Needs a C compiler and musl (Debian: musl-tools) or a static glibc.
set -eu
cd "$(dirname "$0")"
if [ -z "${CC:-}" ]; then
    CC=gcc
    ! command -v musl-gcc >/dev/null 2>&1 || CC=musl-gcc
fi
exec "$CC" -std=gnu11 -Os -static -s -Wall -Wextra -Wshadow -Werror -fno-strict-aliasing -o "$1" \
    main.c protocol.c command.c folder.c system.c
