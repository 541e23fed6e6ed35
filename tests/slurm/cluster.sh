#!/bin/sh
# Run a command on a SLURM cluster of one node, which lives and dies with this process.
#
#   unshare -n -u -m -p -f --kill-child --mount-proc sh cluster.sh FOLDER COMMAND...
#
# In namespaces of its own, as root: nothing of it is seen from outside, and nothing is left.
set -eu
folder=$1
shift
here=$(dirname "$0")
mkdir -p "$folder/etc" "$folder/run" "$folder/log" "$folder/state" "$folder/spool"

ip link set lo up
ip addr add 127.0.0.2/8 dev lo # else localhost does not resolve
hostname localhost

sed "s|@FOLDER@|$folder|g; s|@CPUS@|$(getconf _NPROCESSORS_ONLN)|g" "$here/slurm.conf" >"$folder/etc/slurm.conf"
printf "Name=gpu File=/dev/null\nName=gpu File=/dev/zero\n" >"$folder/etc/gres.conf"
mkdir -p /etc/slurm
mount --bind "$folder/etc" /etc/slurm # a job's own step forgets SLURM_CONF

dd if=/dev/urandom of="$folder/run/munge.key" bs=128 count=1 2>/dev/null
chmod 700 "$folder/run" "$folder/log"
chmod 400 "$folder/run/munge.key"
munged --force --foreground --socket="$folder/run/munge.sock" --key-file="$folder/run/munge.key" \
    --pid-file="$folder/run/munged.pid" --log-file="$folder/log/munged.log" --seed-file="$folder/run/munge.seed" &
while [ ! -S "$folder/run/munge.sock" ]; do sleep 0.1; done
slurmctld -D -i >"$folder/log/slurmctld.out" 2>&1 &
slurmd -D -N localhost >"$folder/log/slurmd.out" 2>&1 &

tries=0
until sinfo -h -o %T 2>/dev/null | grep -q idle; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] || { cat "$folder"/log/*.out >&2; exit 1; }
    sleep 0.1
done
"$@"
