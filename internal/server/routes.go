package server

import (
	"net/http"
	"strings"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

type handler func(s *Server, w http.ResponseWriter, r *request) error

// route is an operation: POST /containers/{name}/start.
type route struct {
	method, pattern string
	handle          handler
}

// routes are all there are. {name} is one or more characters of any kind,
// slashes too: references of images have them. * is the rest of a path, without slashes.
var routes = []route{
	{"HEAD", "/_ping", (*Server).ping},
	{"GET", "/_ping", (*Server).ping},
	{"GET", "/version", (*Server).getVersion},
	{"GET", "/info", (*Server).getInfo},
	{"GET", "/events", (*Server).streamEvents},
	{"GET", "/system/df", (*Server).getDiskUsage},

	{"GET", "/containers/json", (*Server).listContainers},
	{"POST", "/containers/create", (*Server).createContainer},
	{"POST", "/containers/prune", (*Server).pruneContainers},
	{"GET", "/containers/{name}/json", (*Server).inspectContainer},
	{"GET", "/containers/{name}/top", (*Server).topContainer},
	{"GET", "/containers/{name}/changes", (*Server).containerChanges},
	{"GET", "/containers/{name}/export", (*Server).exportContainer},
	{"HEAD", "/containers/{name}/archive", (*Server).statArchive},
	{"GET", "/containers/{name}/archive", (*Server).getArchive},
	{"PUT", "/containers/{name}/archive", (*Server).putArchive},
	{"GET", "/containers/{name}/logs", (*Server).streamLogs},
	{"GET", "/containers/{name}/stats", (*Server).containerStats},
	{"POST", "/containers/{name}/start", (*Server).startContainer},
	{"POST", "/containers/{name}/stop", (*Server).stopContainer},
	{"POST", "/containers/{name}/restart", (*Server).restartContainer},
	{"POST", "/containers/{name}/kill", (*Server).killContainer},
	{"POST", "/containers/{name}/pause", (*Server).pauseContainer},
	{"POST", "/containers/{name}/unpause", (*Server).unpauseContainer},
	{"POST", "/containers/{name}/rename", (*Server).renameContainer},
	{"POST", "/containers/{name}/resize", (*Server).resizeContainer},
	{"POST", "/containers/{name}/update", (*Server).updateContainer},
	{"POST", "/containers/{name}/wait", (*Server).waitContainer},
	{"POST", "/containers/{name}/attach", (*Server).attachContainer},
	{"GET", "/containers/{name}/attach/ws", (*Server).attachWebSocket},
	{"POST", "/containers/{name}/exec", (*Server).createExec},
	{"GET", "/containers/{name}/execs", (*Server).listExecs},
	{"DELETE", "/containers/{name}", (*Server).removeContainer},

	{"POST", "/exec/{name}/start", (*Server).startExec},
	{"POST", "/exec/{name}/resize", (*Server).resizeExec},
	{"POST", "/exec/{name}/kill", (*Server).killExec},
	{"GET", "/exec/{name}/json", (*Server).inspectExec},

	{"POST", api.RunPath, (*Server).runContainer},
	{"POST", api.PublishPath, (*Server).publishPorts},
	{"POST", api.OptionsPath, (*Server).changeOptions},
	{"GET", api.LayersPath, (*Server).containerLayers},
	{"POST", api.LayersPath, (*Server).addContainerLayer},
	{"PUT", api.LayersPath, (*Server).modifyContainerLayer},
	{"DELETE", api.LayersPath, (*Server).removeContainerLayer},
	{"GET", api.StatsPath, (*Server).allStats},
	{"GET", api.ImageDiffPath, (*Server).diffImages},
	{"GET", api.ImageLayersPath, (*Server).imageLayers},
	{"POST", api.ImageVerifyPath, (*Server).verifyImages},
	{"POST", api.ImageRepairPath, (*Server).repairImages},
	{"GET", api.ImageBlobsPath, (*Server).imageBlobs},
	{"POST", api.ImageMissingPath, (*Server).missingLayers},
	{"POST", api.ImageSavePath, (*Server).saveIncrement},
	{"POST", api.ImageImportEnginePath, (*Server).importEngineImages},
	{"POST", api.ImportEnginePath, (*Server).importEngine},
	{"GET", api.ImageMountsPath, (*Server).imageMounts},
	{"POST", api.ImageMountsPath, (*Server).mountImage},
	{"DELETE", api.ImageMountsPath, (*Server).unmountImage},
	{"POST", api.VolumeClonePath, (*Server).cloneVolume},
	{"POST", api.VolumeRenamePath, (*Server).renameVolume},
	{"GET", api.VolumeArchivePath, (*Server).exportVolume},
	{"PUT", api.VolumeArchivePath, (*Server).importVolume},
	{"HEAD", api.VolumeFilesPath, (*Server).statVolumeFiles},
	{"GET", api.VolumeFilesPath, (*Server).getVolumeFiles},
	{"PUT", api.VolumeFilesPath, (*Server).putVolumeFiles},
	{"GET", api.VolumeSnapshotsPath, (*Server).volumeSnapshots},
	{"POST", api.VolumeSnapshotsPath, (*Server).takeSnapshot},
	{"DELETE", api.VolumeSnapshotsPath, (*Server).removeSnapshot},
	{"POST", api.VolumeRollbackPath, (*Server).rollbackVolume},
	{"GET", api.VolumeUsagePath, (*Server).volumeUsage},
	{"POST", api.VolumeReplacePath, (*Server).replaceVolumeDevice},
	{"POST", api.VolumeResizePath, (*Server).resizeVolume},
	{"PUT", api.VolumeKeyPath, (*Server).unlockVolume},
	{"DELETE", api.VolumeKeyPath, (*Server).lockVolume},
	{"GET", api.ManifestPath, (*Server).registryManifest},
	{"POST", api.ManifestPath, (*Server).pushManifest},

	{"POST", "/commit", (*Server).commitContainer},

	{"GET", "/images/json", (*Server).listImages},
	{"GET", "/images/get", (*Server).saveImages},
	{"POST", "/images/load", (*Server).loadImages},
	{"POST", "/images/create", (*Server).createImage},
	{"GET", "/images/search", (*Server).searchImages},
	{"POST", "/images/prune", (*Server).pruneImages},
	{"GET", "/images/{name}/json", (*Server).inspectImage},
	{"GET", "/images/{name}/get", (*Server).saveImages},
	{"GET", "/images/{name}/history", (*Server).imageHistory},
	{"GET", "/images/{name}/attestations", (*Server).imageAttestations},
	{"POST", "/images/{name}/tag", (*Server).tagImage},
	{"POST", "/images/{name}/pin", (*Server).pinImage},
	{"POST", "/images/{name}/unpin", (*Server).unpinImage},
	{"POST", "/images/{name}/push", (*Server).pushImage},
	{"DELETE", "/images/{name}", (*Server).removeImage},

	{"POST", "/auth", (*Server).login},
	{"GET", "/distribution/{name}/json", (*Server).inspectDistribution},

	{"GET", "/networks", (*Server).listNetworks},
	{"GET", "/networks/", (*Server).listNetworks},
	{"GET", "/networks/{name}", (*Server).inspectNetwork},
	{"POST", "/networks/create", (*Server).createNetwork},
	{"DELETE", "/networks/{name}", (*Server).removeNetwork},
	{"POST", "/networks/{name}/connect", (*Server).connectNetwork},
	{"POST", "/networks/{name}/disconnect", (*Server).disconnectNetwork},
	{"POST", "/networks/prune", (*Server).pruneNetworks},
	{"GET", api.NetworkExplainPath, (*Server).explainNetwork},
	{"GET", "/volumes", (*Server).listVolumes},
	{"POST", "/volumes/create", (*Server).createVolume},
	{"GET", "/volumes/{name}", (*Server).inspectVolume},
	{"DELETE", "/volumes/{name}", (*Server).removeVolume},
	{"POST", "/volumes/prune", (*Server).pruneVolumes},

	{"POST", "/grpc", (*Server).buildGRPC},
	{"POST", "/session", (*Server).buildSession},
	{"POST", "/build", (*Server).buildImage},
	{"POST", "/build/cancel", (*Server).cancelBuild},
	{"POST", "/build/prune", (*Server).pruneBuildCache},

	{"GET", "/debug/{name}", (*Server).debug},

	// What this engine does not have.
	{"GET", "/plugins", (*Server).listPlugins},
	{"GET", "/plugins/privileges", (*Server).noPluginsHere},
	{"POST", "/plugins/pull", (*Server).noPluginsHere},
	{"POST", "/plugins/create", (*Server).noPluginsHere},
	{"GET", "/plugins/{name}/json", (*Server).noPlugin},
	{"DELETE", "/plugins/{name}", (*Server).noPlugin},
	{"POST", "/plugins/{name}/enable", (*Server).noPlugin},
	{"POST", "/plugins/{name}/disable", (*Server).noPlugin},
	{"POST", "/plugins/{name}/upgrade", (*Server).noPlugin},
	{"POST", "/plugins/{name}/push", (*Server).noPlugin},
	{"POST", "/plugins/{name}/set", (*Server).noPlugin},
	{"GET", "/containers/{name}/checkpoints", (*Server).noCheckpoints},
	{"POST", "/containers/{name}/checkpoints", (*Server).noCheckpoints},
	{"DELETE", "/containers/{name}/checkpoints/*", (*Server).noCheckpoints},
	{"PUT", "/volumes/{name}", (*Server).noManager},
	{"POST", "/swarm/init", (*Server).noSwarmHere},
	{"POST", "/swarm/join", (*Server).noSwarmHere},
	{"POST", "/swarm/leave", (*Server).notInSwarm},
	{"GET", "/swarm", (*Server).noManager},
	{"GET", "/swarm/unlockkey", (*Server).noManager},
	{"POST", "/swarm/update", (*Server).noManager},
	{"POST", "/swarm/unlock", (*Server).noManager},
	{"GET", "/nodes", (*Server).noManager},
	{"GET", "/nodes/{name}", (*Server).noManager},
	{"DELETE", "/nodes/{name}", (*Server).noManager},
	{"POST", "/nodes/{name}/update", (*Server).noManager},
	{"GET", "/services", (*Server).noManager},
	{"POST", "/services/create", (*Server).noManager},
	{"GET", "/services/{name}", (*Server).noManager},
	{"GET", "/services/{name}/logs", (*Server).noManager},
	{"POST", "/services/{name}/update", (*Server).noManager},
	{"DELETE", "/services/{name}", (*Server).noManager},
	{"GET", "/tasks", (*Server).noManager},
	{"GET", "/tasks/{name}", (*Server).noManager},
	{"GET", "/tasks/{name}/logs", (*Server).noManager},
	{"GET", "/secrets", (*Server).noManager},
	{"POST", "/secrets/create", (*Server).noManager},
	{"GET", "/secrets/{name}", (*Server).noManager},
	{"POST", "/secrets/{name}/update", (*Server).noManager},
	{"DELETE", "/secrets/{name}", (*Server).noManager},
	{"GET", "/configs", (*Server).noManager},
	{"POST", "/configs/create", (*Server).noManager},
	{"GET", "/configs/{name}", (*Server).noManager},
	{"POST", "/configs/{name}/update", (*Server).noManager},
	{"DELETE", "/configs/{name}", (*Server).noManager},
}

// fixedKey finds a route without a name, namedKey one with: its noun stands
// before the name and its verb, which may be absent, after it.
type (
	fixedKey struct{ method, path string }
	namedKey struct{ method, noun, verb string }
)

var fixedRoutes, namedRoutes = indexRoutes()

func indexRoutes() (map[fixedKey]*route, map[namedKey]*route) {
	fixed, named := map[fixedKey]*route{}, map[namedKey]*route{}
	for i := range routes {
		r := &routes[i]
		noun, verb, hasName := strings.Cut(r.pattern, "/{name}")
		if hasName {
			named[namedKey{r.method, noun[1:], strings.TrimPrefix(verb, "/")}] = r
		} else {
			fixed[fixedKey{r.method, r.pattern}] = r
		}
	}
	return fixed, named
}

// lookUp finds the route of a path without its version, and the name in it.
func lookUp(method, path string) (*route, string) {
	if h := fixedRoutes[fixedKey{method, path}]; h != nil {
		return h, ""
	}
	noun, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if rest == "" {
		return nil, ""
	}
	if i := strings.LastIndexByte(rest, '/'); i > 0 && i < len(rest)-1 {
		if h := namedRoutes[namedKey{method, noun, rest[i+1:]}]; h != nil {
			return h, rest[:i]
		}
		if j := strings.LastIndexByte(rest[:i], '/'); j > 0 {
			if h := lookUpLong(method, noun, rest[j+1:i], rest[i+1:]); h != nil {
				return h, rest[:j]
			}
		}
	}
	return namedRoutes[namedKey{method, noun, ""}], rest
}

// carriesImages are the routes by which programs that only copy images (skopeo 1.9) go,
// with the version 1.22: they have not changed since.
func carriesImages(path string) bool {
	return path == "/images/load" || strings.HasPrefix(path, "/images/") && strings.HasSuffix(path, "/get")
}

// lookUpLong finds a route whose verb has two parts, of which the second may be anything.
func lookUpLong(method, noun, first, second string) *route {
	if h := namedRoutes[namedKey{method, noun, first + "/" + second}]; h != nil {
		return h
	}
	return namedRoutes[namedKey{method, noun, first + "/*"}]
}

// splitVersion takes the version "1.44" off the path "/v1.44/info".
func splitVersion(path string) (version, rest string) {
	v, ok := strings.CutPrefix(path, "/v")
	if !ok {
		return "", path
	}
	n := 0
	for n < len(v) && (v[n] == '.' || v[n] >= '0' && v[n] <= '9') {
		n++
	}
	if n == 0 || n == len(v) || v[n] != '/' {
		return "", path
	}
	return v[:n], v[n:]
}

// checkVersion reads the version with which a path was asked for.
func checkVersion(given, path string) (api.Version, error) {
	v, ok := api.ParseVersion(given)
	if ok && carriesImages(path) && v.Less(api.MinVersion) && !v.Before(22) {
		return api.MinVersion, nil
	}
	if !ok || v.Less(api.MinVersion) {
		return v, errdefs.New(errdefs.InvalidArgument, "client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", given, api.MinVersion)
	}
	if api.MaxVersion.Less(v) {
		return v, errdefs.New(errdefs.InvalidArgument, "client version %s is too new. Maximum supported API version is %s", given, api.MaxVersion)
	}
	return v, nil
}
