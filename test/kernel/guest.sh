#!/bin/bash
# Process 1 of the test machine, in a copy of the host's root directory, or a unit
# of systemd's: makes what an init system would make, runs the tests on the list,
# powers off.
# What it prints goes to the host's standard output.
stty -F /dev/ttyS1 -opost
exec </dev/null >/dev/ttyS1 2>&1
. /kernel-test/settings
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/go/bin HOME=/root

finish() {
	echo "$1" >/kernel-test/status
	sync
	busybox poweroff -f
}
trap 'finish 99' EXIT

if [ -z "$systemd" ]; then
	mkdir -p /dev/pts /dev/shm
	mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
	mount -t tmpfs -o mode=1777 shm /dev/shm
	mount -t tmpfs -o mode=755 run /run
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t securityfs securityfs /sys/kernel/security
	ln -sfn /proc/self/fd /dev/fd
	for i in 0:stdin 1:stdout 2:stderr; do ln -sfn "/proc/self/fd/${i%:*}" "/dev/${i#*:}"; done
fi
mkdir -p /dev/mqueue
mount -t mqueue mqueue /dev/mqueue
mkdir -p /lib/modules /tree
mount --bind "$kernel/lib/modules" /lib/modules # before others cover them
mount --bind "$tree" /tree
mkdir -p /kernel-disk
mount -t ext4 /dev/vda /kernel-disk
for d in tmp var/tmp var/lib; do
	mkdir -p "/$d" "/kernel-disk/$d"
	chmod --reference="/$d" "/kernel-disk/$d"
	mount --bind "/kernel-disk/$d" "/$d"
done
cp -r /kernel-test/tests /kernel-test/bin /kernel-disk/ # programs start faster from there
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
modprobe -a bridge veth nf_tables nft_chain_nat nft_masq nft_ct nft_fib_inet br_netfilter tun fuse loop
hostname kernel-test
ip link set lo up

if [ -e /kernel-test/command ]; then
	cd /tree || finish 98
	export PATH=/kernel-disk/bin:$PATH
	bash /kernel-test/command
	finish $?
fi

failed=() passed=0
while read -r package name args; do
	cd "/tree/$package" || finish 98
	start=$SECONDS
	if "/kernel-disk/tests/$name" $args; then
		passed=$((passed + 1))
		echo "ok    $package $((SECONDS - start))s"
	else
		failed+=("$package")
		echo "FAIL  $package $((SECONDS - start))s"
	fi
done <"/kernel-test/list${systemd:+.systemd}"
if dmesg | grep -E 'BUG:|WARNING:|Oops|refcount_t'; then
	failed+=("the kernel's log")
fi
echo "kernel: $passed packages passed, ${#failed[@]} failed${failed:+: ${failed[*]}}, $SECONDS s"
finish $((${#failed[@]} > 0))
