#!/bin/sh
# Install the servers that tests start themselves, where they are missing; as root, on Debian. Starts nothing.
set -eu

missing=""
ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 || missing="$missing postgresql"
for program in slurmctld slurmd munged; do
    [ -x "/usr/sbin/$program" ] || missing="$missing $(echo "$program" | sed s/munged/munge/)"
done
[ -x /usr/bin/sbatch ] || missing="$missing slurm-client"
# The runner of user containers is built and tried in a container of nothing but busybox.
command -v musl-gcc >/dev/null 2>&1 || missing="$missing musl-tools"
[ -e /bin/busybox ] || [ -e /usr/bin/busybox ] || missing="$missing busybox-static"
# Hosts as network namespaces.
command -v ip >/dev/null 2>&1 || [ -x /usr/sbin/ip ] || missing="$missing iproute2"

[ -z "$missing" ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "missing for the tests:$missing; install with: sudo apt-get install$missing" >&2
    exit 1
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet --quiet
# Packages would start servers of their own at once; the tests start theirs.
if [ ! -e /usr/sbin/policy-rc.d ]; then
    trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
    chmod 755 /usr/sbin/policy-rc.d
fi
mkdir -p /etc/postgresql-common
[ -e /etc/postgresql-common/createcluster.conf ] || echo "create_main_cluster = false" > /etc/postgresql-common/createcluster.conf
# shellcheck disable=SC2086 (a list of words)
apt-get install --yes --quiet --quiet --no-install-recommends $missing
