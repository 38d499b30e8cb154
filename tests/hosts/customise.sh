# Runs inside the new root file system: turns a bare release into a server that anybody could have installed.
# $1: apt sources, one a line. $2: packages to lay into apt's cache without installing them.

rm -rf /etc/apt/sources.list.d/* && printf '%s\n' "$1" >/etc/apt/sources.list
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update
apt-get -qq -y upgrade
# shellcheck disable=SC2086  # a list of words
apt-get -qq -y install --download-only $2

# Every host makes identity and host keys of its own at its first boot.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/ssh/ssh_host_*
mkdir -p /etc/systemd/system/ssh.service.d
cat >/etc/systemd/system/ssh.service.d/host-keys.conf <<'UNIT'
[Service]
ExecStartPre=
ExecStartPre=/usr/bin/ssh-keygen -A
ExecStartPre=/usr/sbin/sshd -t
UNIT

# Nothing may start by itself in the middle of a test, and there are no terminals here.
for unit in apt-daily.timer apt-daily-upgrade.timer fstrim.timer e2scrub_all.timer e2scrub_reap.service \
    dpkg-db-backup.timer getty.target console-getty.service; do
    ln -sf /dev/null "/etc/systemd/system/$unit"
done
