#!/usr/bin/env bash
# test/clients/get.sh DIR: puts other people's clients into DIR: those that are written
# in Go are made from the Go proxy, the others come from Debian and npm. What is there
# already stays.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
export CGO_ENABLED=0

buildx=v0.38.2
compose=v5.0.2
docker=29.9.2

# made NAME PACKAGE@VERSION [OPTION...]: makes a program, under another name if its
# package's is not its own.
made() {
	local name=$1 package=$2 work
	shift 2
	[ ! -e "$dir/$name" ] || return 0
	work=$(mktemp -d)
	GOBIN=$work go install "$@" "$package"
	mv "$work"/* "$dir/$name"
	rmdir "$work"
}

# docker29 makes Docker's command line, whose module has its go.mod under another name.
docker29() {
	local work
	[ ! -e "$dir/docker29" ] || return 0
	work=$(mktemp -d)
	cp -r "$(go mod download -json "github.com/docker/cli@v$docker+incompatible" | jq -r .Dir)"/. "$work"
	chmod -R u+w "$work"
	cp "$work/vendor.mod" "$work/go.mod"
	cp "$work/vendor.sum" "$work/go.sum"
	(cd "$work" && go build -mod=mod -ldflags "-X github.com/docker/cli/cli/version.Version=$docker" -o "$dir/docker29" ./cmd/docker)
	rm -rf "$work"
}

# buildkit makes BuildKit's daemon, its client and its frontend, of the version that is in
# the engine. Its go.mod lets nobody install them by name.
buildkit() {
	local source
	[ ! -e "$dir/dockerfile-frontend" ] || return 0
	source=$(cd "$here" && go list -m -f '{{.Dir}}' github.com/moby/buildkit)
	go -C "$source" build -trimpath -ldflags "-s -w" -o "$dir/" ./cmd/buildctl ./cmd/buildkitd ./frontend/dockerfile/cmd/dockerfile-frontend
}

packages=(docker.io docker-compose python3-docker skopeo nodejs)
missing=()
for p in "${packages[@]}"; do
	dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
command -v npm >/dev/null || missing+=(npm)
if [ ${#missing[@]} -gt 0 ]; then
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

made buildx "github.com/docker/buildx/cmd/buildx@$buildx" -ldflags "-X github.com/docker/buildx/version.Version=$buildx"
made compose "github.com/docker/compose/v5/cmd@$compose"
made crane github.com/google/go-containerregistry/cmd/crane@v0.22.1
made dive github.com/wagoodman/dive@v0.13.1
made act github.com/nektos/act@v0.2.89
docker29
buildkit
ln -sfn /usr/bin/docker "$dir/docker20"
go build -o "$dir/reaper" "$here/reaper"

mkdir -p "$dir/node"
cp "$here"/node/package*.json "$dir/node/"
(cd "$dir/node" && npm ci --silent --no-audit --no-fund --ignore-scripts)
