#!/usr/bin/env bash
# test/kernel/run.sh [-s] [-a] [-i 2|1] [-c COMMAND] [PACKAGE...]: runs root tests on another
# kernel: Debian's 6.1 in qemu, with control groups of version 2 only.
#
#	-s        the short form: a choice of packages and tests, one boot
#	-a        with AppArmor (the short form has it, the full one boots twice)
#	-i        with systemd as process 1, and control groups of version 2 or 1, as
#	          systemd mounts them: the tests that need it (the full form has both)
#	-c        runs a line of shell there instead of tests, in this directory
#	PACKAGE   directories; without any those of the chosen form
#
# The machine sees this one's root directory read-only (9p) below a tmpfs, so
# it has the same programs; what tests write goes to an ext4 disk. The kernel is taken by apt-get download, unpacked
# into KERNEL_CACHE and not installed. It is emulated (TCG): about ten times
# slower than this machine. Needs root and test/deps.sh.
#
# KERNEL_MEMORY (4096, megabytes), KERNEL_TIMEOUT (1800, seconds of one boot),
# KERNEL_ENV (NAME=VALUE, for the tests), KERNEL_RUN (-test.run of all packages),
# KERNEL_TAGS (root, of the build).
set -euo pipefail
cd "$(dirname "$0")/../.."
tree=$PWD

short= apparmor= command= init=
while getopts sai:c: o; do
	case $o in
	s) short=-test.short apparmor=1 ;;
	a) apparmor=1 ;;
	i) init=$OPTARG ;;
	c) command=$OPTARG ;;
	*) exit 2 ;;
	esac
done
shift $((OPTIND - 1))

full=(internal/linux/cgroup internal/linux/mount internal/linux/netns internal/linux/proc internal/linux/untar
	internal/linux/apparmor internal/linux/spawn internal/linux/memfd internal/linux/seccomp internal/linux/inroot
	internal/linux/process internal/linux/fifo internal/layer/overlay internal/layer/union internal/layer/vfs internal/layer/btrfs internal/layer/devicemapper internal/linux/btrfs internal/linux/projquota internal/linux/dm cmd/tare-dm internal/volume/local internal/volume/mapped internal/image
	internal/runtime internal/keeper internal/network internal/union/tree internal/union/mnt test/probe test/script)
brief=(internal/linux/cgroup internal/linux/mount internal/linux/apparmor internal/linux/spawn internal/linux/dm cmd/tare-dm internal/volume/mapped internal/layer/overlay internal/layer/devicemapper
	internal/runtime internal/keeper internal/network internal/union/mnt test/script)

with_init=(internal/linux/systemd cmd/tare-runtime test/script)

# pattern is what the short form runs of a package that is too slow as a whole.
pattern() {
	case $1 in
	internal/linux/dm) echo "Test(BadTables|BusyDevice|Nodes|Wait|CookiesReachUdev)$" ;;
	internal/volume/mapped) echo "Test(Restart|PullAndReplace/mirror|Errors|Multipath|Unlock|Snapshots|SnapshotOfALateWriter)$" ;;
	cmd/tare-dm) echo "TestReasons$|TestSessions/(nothing|concise|checks)$" ;;
	internal/layer/overlay) echo "TestSuite/(FreshContainer|WhiteoutsHide|MetadataIsKept|ChangesAreExact|ContainersHaveIDs|DiffIsALayer|ExportIsTheWholeRoot|ViewsAreReadOnly|SizeIsALimit)" ;;
	internal/layer/devicemapper) echo "^Test(DevicesOutliveTheEngine|KilledEngines|Suite)$/^(|[0-9]+|FreshContainer.*|ContainersKeep.*)$" ;;
	internal/network) echo "Test(EndpointAhead|BoundEndpointsReach|KilledEngine|NetworksWithoutLinks|RatesAreKept|LimitsThat|DelayAndLoss|MadeNetworks|TableOfMany|Names$|PublishedPort|PublishedSCTP|PublishedForTheOther|GuardSpares|HostDoesNotBecome|UDPClient|IPv6Network|Macvlan$|MacvlanModes|Ipvlan|RoutedNetwork|IsolatedNetwork|TooSmall)" ;;
	internal/runtime) echo "Test(Default|Masks|Privileged|Exec|Cell|Namespaces|HostNamespaces|Binds)" ;;
	internal/union/mnt) echo "Test(TakeOver|TakeOverUnderLoad|BranchChangesUnderKills|WritableByOne)$" ;;
	test/script) echo "TestTare/sessions/(hello|limits|exec|namespaces|security|oom|apparmor|userns)$" ;;
	esac
}

# tags are those with which the tests of a package are built: those that kill need points
# where to.
tags() {
	case $1 in
	internal/volume/mapped) echo "root failpoint" ;;
	*) echo "${KERNEL_TAGS:-root}" ;;
	esac
}

cache=${KERNEL_CACHE:-/var/cache/tare-kernel}
work=$(mktemp -d /var/tmp/tare-kernel-XXXXXX)
trap 'rm -rf "$work"' EXIT

# kernel unpacks Debian's kernel into the cache, once for each version.
kernel() {
	local name deb
	name=$(apt-cache depends linux-image-amd64 | awk '/Depends: linux-image-/ { print $2; exit }')
	[ -n "$name" ] || { echo "apt knows no linux-image-amd64: run apt-get update" >&2; return 1; }
	kernel=$cache/$name
	if [ ! -e "$kernel/ready" ]; then
		rm -rf "$kernel"
		mkdir -p "$kernel"
		(cd "$kernel" && apt-get download -qq -o APT::Sandbox::User=root "$name")
		deb=$(echo "$kernel"/*.deb)
		dpkg-deb -x "$deb" "$kernel"
		rm "$deb"
		/sbin/depmod -b "$kernel" "${name#linux-image-}"
		touch "$kernel/ready"
	fi
	version=${name#linux-image-}
}

# initrd makes the first file system: busybox, and what mounts the second one.
initrd() {
	local dir=$work/initrd m
	mkdir -p "$dir"/{bin,proc,sys,dev,mnt,lib/modules/$version}
	cp "$(command -v busybox)" "$dir/bin/busybox"
	for m in sh mount mkdir modprobe switch_root ls cat poweroff; do ln -s busybox "$dir/bin/$m"; done
	cp "$kernel/lib/modules/$version"/modules.{dep,alias,builtin,order,symbols} "$dir/lib/modules/$version/"
	for m in $(/sbin/modprobe -d "$kernel" -S "$version" --show-depends -a virtio_pci 9pnet_virtio 9p overlay virtio_blk ext4 | awk '$1 == "insmod" { print $2 }' | sort -u); do
		mkdir -p "$dir$(dirname "${m#"$kernel"}")"
		cp "$m" "$dir${m#"$kernel"}"
	done
	cp test/kernel/init "$dir/init"
	(cd "$dir" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.gz"
	rm -rf "$dir"
}

# build compiles the tests of all packages and writes a list of what to run.
build() {
	local list=$1 p name only
	shift
	for p; do
		name=${p//\//-}.test
		[ -e "$work/tests/$name" ] || CGO_ENABLED=0 go test -c -tags "$(tags "$p")" -o "$work/tests/$name" "./$p"
		[ -e "$work/tests/$name" ] || continue # no test in it
		only=${KERNEL_RUN:-}
		[ -z "$short" ] || [ -n "$only" ] || only=$(pattern "$p")
		[ "$list" != list.systemd ] || [ -n "$only" ] || only=UnderSystemd
		echo "$p $name -test.timeout=20m $short ${only:+-test.run=$only}" >>"$work/$list"
	done
}

# boot runs the list on the kernel and returns its status; with systemd as process
# 1 another list.
boot() {
	local options=$1 systemd=${2:-}
	rm -f "$work/status" "$work/disk"
	printf 'tree=%q\nkernel=%q\nsystemd=%q\nexport %s\n' "$tree" "$kernel" "$systemd" "TARE_TEST_BIN=/kernel-disk/bin ${KERNEL_ENV:-}" >"$work/settings"
	truncate -s 8G "$work/disk"
	mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1 "$work/disk"
	echo "kernel-test: $version, $options"
	timeout -k 5 "${KERNEL_TIMEOUT:-1800}" qemu-system-x86_64 -accel tcg,thread=multi -cpu qemu64 -smp 2 -m "${KERNEL_MEMORY:-4096}" \
		-nodefaults -no-reboot -display none -serial "file:$work/console" -serial stdio \
		-kernel "$kernel/boot/vmlinuz-$version" -initrd "$work/initrd.gz" \
		-append "console=ttyS0 quiet panic=-1 mitigations=off audit=0 random.trust_cpu=on $options" \
		-fsdev local,id=root,path=/,security_model=none,readonly=on,multidevs=remap -device virtio-9p-pci,fsdev=root,mount_tag=root \
		-fsdev local,id=work,path="$work",security_model=none -device virtio-9p-pci,fsdev=work,mount_tag=work \
		-drive file="$work/disk",format=raw,if=virtio,cache=unsafe,discard=unmap \
		</dev/null 2>"$work/qemu" || true
	if [ ! -e "$work/status" ]; then
		echo "kernel-test: no status came back" >&2
		tail -n 40 "$work/console" "$work/qemu" >&2
		return 1
	fi
	return "$(cat "$work/status")"
}

# under boots with systemd and control groups of a version.
under() {
	case $1 in
	2) boot "apparmor=0 systemd.unified_cgroup_hierarchy=1" 2 ;;
	1) boot "apparmor=0 systemd.unified_cgroup_hierarchy=0" 1 ;;
	*) echo "version $1 of control groups: 2 or 1" >&2 && return 2 ;;
	esac
}

[ -x bin/tared ] || { echo "run make build first" >&2; exit 1; }
kernel
initrd
mkdir "$work/tests" "$work/bin"
find bin -maxdepth 1 -type f -exec cp -t "$work/bin" {} +
CGO_ENABLED=0 go build -trimpath -o "$work/bin/probe" ./test/probe
if [ -n "$command" ]; then
	echo "$command" >"$work/command"
elif [ -n "$init" ]; then
	if [ $# -gt 0 ]; then build list.systemd "$@"; else build list.systemd "${with_init[@]}"; fi
elif [ $# -gt 0 ]; then
	build list "$@"
elif [ -n "$short" ]; then
	build list "${brief[@]}"
else
	build list "${full[@]}"
	build list.systemd "${with_init[@]}"
fi

bad=0
if [ -n "$init" ]; then
	under "$init" || bad=1
elif [ -n "$apparmor" ]; then
	boot "apparmor=1 security=apparmor" || bad=1
elif [ $# -gt 0 ] || [ -n "$command" ]; then
	boot "apparmor=0" || bad=1
else
	boot "apparmor=0" || bad=1
	boot "apparmor=1 security=apparmor" || bad=1
	under 2 || bad=1
	under 1 || bad=1
fi
exit $bad
