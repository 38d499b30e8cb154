#!/bin/sh
# Copyright (c) 2026, the gpufleet authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# A stand-in for k3s' installer where nothing may be downloaded: what it leaves on a host, and what it forgets. Source of
# each behaviour: install.sh of k3s.
set -e

name=k3s
[ "$1" = agent ] && name=k3s-agent
unit=/etc/systemd/system/$name.service

[ "$INSTALL_K3S_SKIP_DOWNLOAD" = true ] || { echo '[ERROR]  Can not find curl or wget for downloading files' >&2; exit 1; }
[ -x /usr/local/bin/k3s ] || { echo '[ERROR]  Executable k3s binary not found at /usr/local/bin/k3s' >&2; exit 1; }

hashes() { sha256sum /usr/local/bin/k3s "$unit" "$unit.env" 2>&1 || true; }
before=$(hashes)

for command in kubectl crictl ctr; do
    [ -e /usr/local/bin/$command ] || ln -sf k3s /usr/local/bin/$command
done

# kills what outlives k3s
cat >/usr/local/bin/k3s-killall.sh <<'SCRIPT'
#!/bin/sh
for service in /etc/systemd/system/k3s*.service; do
    [ -s "$service" ] && systemctl stop "$(basename "$service")"
done
pkill -9 -f 'mock/bin/vllm serve'
SCRIPT

cat >/usr/local/bin/$name-uninstall.sh <<SCRIPT
#!/bin/sh
/usr/local/bin/k3s-killall.sh
systemctl disable $name
systemctl reset-failed $name
rm -f $unit $unit.env
systemctl daemon-reload
trap 'rm -f /usr/local/bin/$name-uninstall.sh' EXIT
for command in kubectl crictl ctr; do
    [ -L /usr/local/bin/\$command ] && rm -f /usr/local/bin/\$command
done
rm -rf /etc/rancher/k3s /var/lib/rancher/k3s /var/lib/kubelet
rm -f /usr/local/bin/k3s /usr/local/bin/k3s-killall.sh
SCRIPT
chmod 755 /usr/local/bin/k3s-killall.sh /usr/local/bin/$name-uninstall.sh

# only what it is called with now: flags and variables of an earlier run are lost
touch "$unit.env"
chmod 0600 "$unit.env"
env | grep -E '^(K3S|CONTAINERD)_' >"$unit.env" || true
cat >"$unit" <<UNIT
[Unit]
Description=Lightweight Kubernetes
Wants=network-online.target
After=network-online.target

[Install]
WantedBy=multi-user.target

[Service]
Type=notify
EnvironmentFile=-$unit.env
KillMode=process
Delegate=yes
TimeoutStartSec=0
Restart=always
RestartSec=5s
ExecStart=/usr/local/bin/k3s $*
UNIT

systemctl enable "$unit" >/dev/null
systemctl daemon-reload
[ "$INSTALL_K3S_SKIP_START" = true ] && exit 0
[ "$before" = "$(hashes)" ] || systemctl restart $name
