package credential

import (
	"maps"
	"slices"
	"strings"
)

// Hub is the name under which credentials for Docker Hub have always been kept.
const Hub = "https://index.docker.io/v1/"

// ServerOf returns the server that is meant by what a user types, or by an old
// key of the file: a host, or a URL of one. Docker Hub is also "".
func ServerOf(name string) string {
	host := name
	if _, rest, ok := strings.Cut(name, "://"); ok {
		host = rest
	}
	host, path, _ := strings.Cut(host, "/")
	switch host {
	case "", "docker.io", "index.docker.io", "registry-1.docker.io":
		switch strings.TrimSuffix(path, "/") {
		case "", "v1", "v2":
			return Hub
		}
		return name // docker's tokens of a log-in by browser lie beside
	}
	return host
}

// namesOf lists the keys under which a server's credentials may lie.
func namesOf(server string) []string {
	if server == Hub {
		return []string{Hub, Hub + "access-token", Hub + "refresh-token"}
	}
	return []string{server, "http://" + server, "https://" + server}
}

// find looks for a server in a map by its name, then by any other.
func find[V any](m map[string]V, server string) (v V, ok bool) {
	if v, ok = m[server]; ok {
		return v, true
	}
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if ServerOf(key) == server {
			return m[key], true
		}
	}
	return v, false
}
