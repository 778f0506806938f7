#!/usr/bin/env bash
# Installs the Debian packages that the tests use, those that are missing.
set -euo pipefail

packages=(apparmor busybox-static build-essential ca-certificates cpio dbus dmsetup e2fsprogs git iproute2 jq kmod make nftables procps qemu-system-x86 runc docker.io strace systemd xfsprogs)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
if [ ${#missing[@]} -gt 0 ]; then
	# The reference engine must not start by itself: it would own this host's
	# bridge and firewall.
	printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
	chmod +x /usr/sbin/policy-rc.d
	trap 'rm -f /usr/sbin/policy-rc.d' EXIT
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi
