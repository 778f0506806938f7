#!/bin/sh
# Makes the real images that tests and benchmarks load:
#
#   make.sh busybox   DIR   busybox.tar: Debian's busybox-static, one layer, made without an engine
#   make.sh debian    DIR   debian.tar: debootstrap and seven more layers, about 200 MB, saved by docker.io
#   make.sh layers127 DIR   layers127.tar: 127 layers on busybox, made without an engine
#   make.sh all       DIR
#
# Needs root and Debian's busybox-static, debootstrap, docker.io.
set -eu

say() { echo "make.sh: $*" >&2; }

# archive OUT REFERENCE LAYER.tar... writes a docker-archive from layer tars.
archive() {
	out=$1 ref=$2
	shift 2
	dir=$(mktemp -d)
	diffs= layers=
	for l; do
		sum=$(sha256sum <"$l" | cut -d' ' -f1)
		[ -e "$dir/$sum.tar" ] || cp --reflink=auto "$l" "$dir/$sum.tar"
		diffs="$diffs${diffs:+,}\"sha256:$sum\"" layers="$layers${layers:+,}\"$sum.tar\""
	done
	history=$(for l; do printf '%s{"created":"2026-01-01T00:00:00Z","created_by":"ADD %s /"}' "${sep-}" "$(basename "$l")"; sep=,; done)
	cat >"$dir/config" <<JSON
{"architecture":"amd64","os":"linux","created":"2026-01-01T00:00:00Z","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Cmd":["sh"]},"history":[$history],"rootfs":{"type":"layers","diff_ids":[$diffs]}}
JSON
	id=$(sha256sum <"$dir/config" | cut -d' ' -f1)
	mv "$dir/config" "$dir/$id.json"
	echo "[{\"Config\":\"$id.json\",\"RepoTags\":[\"$ref\"],\"Layers\":[$layers]}]" >"$dir/manifest.json"
	(cd "$dir" && tar -cf "$out.part" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@0 -- *)
	mv "$out.part" "$out"
	rm -rf "$dir"
	say "$out"
}

# layer OUT DIR tars a directory the same way each time.
layer() { tar -C "$2" -cf "$1" --sort=name --owner=0 --group=0 --numeric-owner --mtime=@1767225600 .; }

busybox_root() {
	r=$1
	mkdir -p "$r/bin" "$r/dev" "$r/etc" "$r/home" "$r/root" "$r/tmp" "$r/usr/bin" "$r/usr/sbin" "$r/var/spool/mail" "$r/var/www"
	cp "$(command -v busybox)" "$r/bin/busybox"
	chmod 755 "$r/bin/busybox"
	for a in $("$r/bin/busybox" --list); do
		[ -e "$r/bin/$a" ] || ln "$r/bin/busybox" "$r/bin/$a"
	done
	ln -s ../../bin/env "$r/usr/bin/env"
	chmod 1777 "$r/tmp"
	chmod 700 "$r/root"
	cat >"$r/etc/passwd" <<-E
		root:x:0:0:root:/root:/bin/sh
		daemon:x:1:1:daemon:/usr/sbin:/bin/false
		bin:x:2:2:bin:/bin:/bin/false
		sys:x:3:3:sys:/dev:/bin/false
		mail:x:8:8:mail:/var/spool/mail:/bin/false
		www-data:x:33:33:www-data:/var/www:/bin/false
		operator:x:37:37:Operator:/var:/bin/false
		nobody:x:65534:65534:nobody:/home:/bin/false
	E
	cat >"$r/etc/group" <<-E
		root:x:0:
		daemon:x:1:
		bin:x:2:
		sys:x:3:
		adm:x:4:
		tty:x:5:
		disk:x:6:
		mail:x:8:
		audio:x:29:operator
		www-data:x:33:
		video:x:44:
		users:x:100:
		nogroup:x:65534:
	E
	echo 'root:*:::::::' >"$r/etc/shadow"
	chmod 600 "$r/etc/shadow"
}

make_busybox() {
	d=$(mktemp -d)
	chmod 755 "$d"
	mkdir "$d/root"
	busybox_root "$d/root"
	layer "$d/busybox" "$d/root"
	archive "$1/busybox.tar" busybox:latest "$d/busybox"
	rm -rf "$d"
}

make_layers127() {
	d=$(mktemp -d)
	mkdir "$d/root"
	busybox_root "$d/root"
	layer "$d/layer000" "$d/root"
	set -- "$1" "$d/layer000"
	for i in $(seq 1 126); do
		n=$(printf %03d "$i")
		mkdir -p "$d/l$n/layers"
		echo "$i" >"$d/l$n/layers/$n"
		echo "$i" >"$d/l$n/layers/top"                                             # every layer replaces it
		[ "$i" -lt 2 ] || : >"$d/l$n/layers/.wh.$(printf %03d $((i - 1)))"         # and removes the one before
		layer "$d/layer$n" "$d/l$n"
		set -- "$@" "$d/layer$n"
	done
	out=$1
	shift
	archive "$out/layers127.tar" layers127:latest "$@"
	rm -rf "$d"
}

# make_debian builds with a private dockerd in a network namespace of its own.
make_debian() {
	out=$1
	d=$(mktemp -d)
	debootstrap --variant=minbase bookworm "$d/root" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$d/debootstrap.log" 2>&1 ||
		{ tail "$d/debootstrap.log" >&2; exit 1; }
	rm -rf "$d/root/var/cache/apt/archives"/*.deb "$d/root/var/lib/apt/lists"/*
	sock=unix://$d/docker.sock
	unshare --net sh -c 'ip link set lo up; exec dockerd "$@"' dockerd -H "$sock" --data-root "$d/data" --exec-root "$d/exec" --pidfile "$d/pid" \
		--bridge none --iptables=false --ip-masq=false >"$d/dockerd.log" 2>&1 &
	pid=$!
	trap 'kill "$pid" 2>/dev/null; wait "$pid" || :; rm -rf --one-file-system "$d"' EXIT
	for _ in $(seq 100); do
		docker -H "$sock" version >/dev/null 2>&1 && break
		kill -0 "$pid" || { tail "$d/dockerd.log" >&2; exit 1; }
		sleep 0.2
	done
	tar -C "$d/root" -c . | docker -H "$sock" import - base:1 >/dev/null
	mkdir "$d/ctx"
	for f in 1 2 3; do # bytes that compress like programs do, about 20 MB each
		(cd "$d/root/usr" && find lib bin -type f | sort | awk "NR % 3 == $f - 1" | head -400 | tar -cf "$d/ctx/part$f.tar" -T -)
	done
	cat >"$d/ctx/Dockerfile" <<-'E'
		FROM base:1
		ENV LANG=C.UTF-8
		ADD part1.tar /opt/one/
		ADD part2.tar /opt/two/
		ADD part3.tar /opt/three/
		RUN useradd -m -u 1000 dev && mkdir -p /srv/app && chown dev:dev /srv/app && ln -s /srv/app /home/dev/app
		RUN for i in $(seq 2000); do echo "file $i" >/srv/app/f$i; done; ln /srv/app/f1 /srv/app/hard; mkfifo /srv/app/fifo; mknod /srv/app/null c 1 3
		RUN rm -rf /usr/share/doc /srv/app/f2* && mkdir /usr/share/doc && echo new >/usr/share/doc/new
		RUN truncate -s 8M /srv/app/sparse && echo end >>/srv/app/sparse; chmod u+s,g+s /bin/true; touch -d @1234567890.123456789 /srv/app/f1
		WORKDIR /root
		LABEL maintainer=tare
		EXPOSE 80/tcp
		CMD ["bash"]
	E
	DOCKER_BUILDKIT=0 docker -H "$sock" build --network none -t debian:12 "$d/ctx" >"$d/build.log" 2>&1 ||
		{ tail "$d/build.log" >&2; exit 1; }
	docker -H "$sock" tag debian:12 debian:latest
	docker -H "$sock" save -o "$out/debian.tar.part" debian:12 debian:latest
	mv "$out/debian.tar.part" "$out/debian.tar"
	say "$out/debian.tar"
}

what=${1:?usage: make.sh busybox|debian|layers127|all DIR}
mkdir -p "${2:?usage: make.sh busybox|debian|layers127|all DIR}"
dir=$(cd "$2" && pwd)
case $what in
busybox | debian | layers127) "make_$what" "$dir" ;;
all) make_busybox "$dir" && make_layers127 "$dir" && make_debian "$dir" ;;
*) say "unknown image $what"; exit 2 ;;
esac
