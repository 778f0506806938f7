package server

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/tare-engine/tare/api"
)

// do sends one request and returns the status and the body.
func do(t testing.TB, c *http.Client, method, target, contentType, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://docker"+target, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, target, err)
	}
	return res, string(b)
}

func TestAnswers(t *testing.T) {
	nested := strings.Repeat("[", 200000)
	big := `{"Image":"img","Env":["` + strings.Repeat("x", maxBody) + `"]}`
	tests := []struct {
		method, target, contentType, body string
		status                            int
		want                              string // the message, or a part of another answer
	}{
		{"GET", "/_ping", "", "", 200, "OK"},
		{"HEAD", "/v1.44/_ping", "", "", 200, ""},
		{"GET", "/v1.44/version", "", "", 200, `"ApiVersion":"1.56"`},
		{"OPTIONS", "/containers/json", "", "", 200, ""},

		// Versions and routes.
		{"GET", "/v1.99/info", "", "", 400, "client version 1.99 is too new. Maximum supported API version is 1.56"},
		{"GET", "/v999/info", "", "", 400, "client version 999 is too new. Maximum supported API version is 1.56"},
		{"GET", "/v1.12/info", "", "", 400, "client version 1.12 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/v1.22/info", "", "", 400, "client version 1.22 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/v1.21/images/img/get", "", "", 400, "client version 1.21 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/v1.22/images/get?names=nosuch", "", "", 404, "No such image: nosuch"},
		{"GET", "/v1.22/images/nosuch/get", "", "", 404, "No such image: nosuch"},
		{"GET", "/v0.1/info", "", "", 400, "client version 0.1 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/v1..4/info", "", "", 400, "client version 1..4 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/vx/info", "", "", 404, "page not found"},
		{"GET", "/v1.44", "", "", 404, "page not found"},
		{"GET", "/v1.44/", "", "", 404, "page not found"},
		{"GET", "/", "", "", 404, "page not found"},
		{"GET", "/nothing", "", "", 404, "page not found"},
		{"GET", "//info", "", "", 404, "page not found"},
		{"GET", "/containers/../info", "", "", 404, "page not found"},
		{"GET", "/containers/a/../../info", "", "", 404, "page not found"},
		{"POST", "/info", "", "", 404, "page not found"},
		{"GET", "/containers/c1/start", "", "", 404, "page not found"},
		{"POST", "/build?squash=1", "", "", 400, "squash is not supported: use a multi-stage Dockerfile, or export and import"},
		{"POST", "/build?networkmode=x", "", "", 400, `network mode "x" not supported by BuildKit: use default, host or none`},
		{"POST", "/build?buildargs=x", "", "", 400, "invalid value for buildargs: invalid character 'x' looking for beginning of value"},
		{"POST", `/build?outputs=[{"Type":"local"}]`, "", "", 400, `outputs: type "local" needs BuildKit's API: docker buildx build --output`},
		{"POST", "/build?version=3", "", "", 400, "invalid version \"3\": want 1 or 2"},
		{"POST", `/build?version=2&outputs=[{"Type":"local"},{"Type":"tar"}]`, "", "", 400, "multiple outputs not supported"},
		{"POST", "/build?outputs=x", "", "", 400, "invalid value for outputs: invalid character 'x' looking for beginning of value"},
		{"POST", "/build/cancel", "", "", 400, "build ID not provided"},
		{"GET", "/containers//json", "", "", 404, "page not found"},
		{"GET", "/containers/json?a=%zz", "", "", 400, `invalid query: invalid URL escape "%zz"`},
		{"GET", "/containers/json?a;b", "", "", 400, `invalid query: invalid semicolon separator in query`},

		// Names.
		{"GET", "/containers/nope/json", "", "", 404, "No such container: nope"},
		{"GET", "/containers/a/b/json", "", "", 404, "No such container: a/b"},
		{"GET", "/containers/..%2fx/json", "", "", 404, "No such container: ../x"},
		{"GET", "/images/host.example/a/img:1/json", "", "", 200, `"Id":"sha256:`},
		{"DELETE", "/images/host.example/a/json", "", "", 200, `"Untagged":"host.example/a/json"`},
		{"GET", "/images/nope/json", "", "", 404, "No such image: nope"},

		// Bodies.
		{"POST", "/containers/create", "application/json", `{"Image":"img"}`, 201, `{"Id":"` + fakeID + `","Warnings":[]}`},
		{"POST", "/containers/create", "application/json; charset=utf-8", `{"image":"img","Bogus":1}`, 201, `{"Id":"` + fakeID + `","Warnings":[]}`},
		{"POST", "/containers/create", "application/json", `{"Image":"gone"}`, 404, "No such image: gone:latest"},
		{"POST", "/containers/create", "", ``, 400, "invalid JSON: EOF"},
		{"POST", "/containers/create", "application/json", ` `, 400, "invalid JSON: EOF"},
		{"POST", "/containers/create", "application/json", `{}`, 400, "config cannot be empty in order to create a container"},
		{"POST", "/containers/create", "application/json", `null`, 400, "config cannot be empty in order to create a container"},
		{"POST", "/containers/create", "application/json", `[]`, 400, "invalid JSON: json: cannot unmarshal array into Go value of type container.CreateRequest"},
		{"POST", "/containers/create", "application/json", `{"Image":`, 400, "invalid JSON: unexpected end of JSON input"},
		{"POST", "/containers/create", "application/json", `{"Image":"img"} x`, 400, "unexpected content after JSON"},
		{"POST", "/containers/create", "application/json", "\xef\xbb\xbf{}", 400, "invalid JSON: invalid character 'ï' looking for beginning of value"},
		{"POST", "/containers/create", "application/json", "{\"Image\":\"\xff\"}", 400, "invalid JSON: not valid UTF-8"},
		{"POST", "/containers/create", "application/json", nested, 400, "invalid JSON: nested deeper than 64"},
		{"POST", "/containers/create", "application/json", big, 413, "request body is larger than 8388608 bytes"},
		{"POST", "/containers/create", "text/plain", `{"Image":"img"}`, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"POST", "/containers/create", "", `{"Image":"img"}`, 400, "malformed Content-Type header (): mime: no media type"},
		{"POST", "/containers/create?platform=linux//x", "application/json", `{"Image":"img"}`, 400, `"" is an invalid component of "linux//x": platform specifier component must match "^[A-Za-z0-9_.-]+$": invalid argument`},
		{"POST", "/containers/c1/exec", "application/json", `{"Cmd":[]}`, 400, "No exec command specified"},
		{"POST", "/containers/c1/exec", "application/json", `{"Cmd":["a"],"DetachKeys":"ctrl-?"}`, 400, "Invalid escape keys (ctrl-?) provided"},
		{"POST", "/containers/c1/start", "application/json", `{"Binds":["/:/x"]}`, 400, "starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24"},

		// Verbs.
		{"POST", "/containers/c1/start", "", "", 204, ""},
		{"POST", "/containers/c1/start", "application/json", "null\n", 204, ""},
		{"POST", "/containers/started/start", "", "", 304, ""},
		{"POST", "/containers/c1/start?checkpoint=x", "", "", 400, "checkpoint is only supported in experimental mode"},
		{"GET", "/containers/c1/checkpoints", "", "", 501, noExperiments},
		{"POST", "/v1.44/containers/c1/checkpoints", "application/json", "{}", 501, noExperiments},
		{"DELETE", "/containers/c1/checkpoints/cp", "", "", 501, noExperiments},
		{"GET", "/plugins/privileges?remote=x", "", "", 501, noRegistryPlugins},
		{"POST", "/plugins/pull?remote=x", "application/json", "[]", 501, noRegistryPlugins},
		{"POST", "/plugins/create?name=x", "application/x-tar", "x", 501, noRegistryPlugins},
		{"POST", "/plugins/a/b/enable", "", "", 404, `plugin "a/b" not found`},
		{"POST", "/plugins/x/set", "application/json", "[]", 404, `plugin "x" not found`},
		{"DELETE", "/plugins/x?force=1", "", "", 404, `plugin "x" not found`},
		{"GET", "/debug/vars", "", "", 404, "page not found"},
		{"GET", "/v1.44/debug/pprof/", "", "", 404, "page not found"},
		{"POST", "/containers/c1/stop?t=5", "", "", 204, ""},
		{"POST", "/containers/c1/restart?t=x", "", "", 400, `invalid value for t: "x": invalid syntax`},
		{"POST", "/containers/c1/kill?signal=TERM", "", "", 204, ""},
		{"POST", "/containers/c1/pause", "", "", 204, ""},
		{"POST", "/containers/c1/unpause", "", "", 409, "Container c1 is not paused"},
		{"POST", "/containers/c1/rename?name=c2", "", "", 204, ""},
		{"POST", "/containers/c1/resize?h=24&w=80", "", "", 200, ""},
		{"POST", "/containers/c1/resize?h=x&w=80", "", "", 400, `invalid resize height "x": invalid syntax`},
		{"POST", "/containers/c1/resize?h=-1&w=80", "", "", 400, `invalid resize height "-1": value out of range`},
		{"POST", "/containers/c1/resize?h=24&w=65536", "", "", 400, `invalid resize width "65536": value out of range`},
		{"DELETE", "/containers/c1?force=1", "", "", 204, ""},
		{"POST", "/containers/c1/update", "application/json", `{"Memory":1}`, 200, `{"Warnings":[]}`},
		{"POST", "/containers/c1/wait?condition=bad", "", "", 400, `invalid condition: "bad"`},
		{"GET", "/containers/c1/logs", "", "", 400, "Bad parameters: you must choose at least one stream"},
		{"GET", "/containers/c1/logs?stdout=1&since=x", "", "", 400, `invalid value for since: not a Unix timestamp: "x"`},
		{"GET", "/containers/c1/stats?stream=0&one-shot=1", "", "", 200, `"name":"/c1","os_type":"linux"`},
		{"GET", "/containers/c1/stats?stream=0", "", "", 200, `"preread":"0001-01-01T00:00:00Z"`},
		{"GET", "/containers/c1/stats", "", "", 200, `"num_procs":1`},
		{"GET", "/containers/c1/stats?one-shot=1", "", "", 400, `cannot have stream=true and one-shot=true`},
		{"GET", "/containers/absent/stats", "", "", 404, `No such container: absent`},
		{"GET", "/tare/images/diff?from=a&to=b", "", "", 200, `{"Total":{"Added":1,"Changed":0,"Deleted":0,`},
		{"GET", "/tare/images/diff?from=a&to=nosuch", "", "", 404, "No such image: nosuch"},
		{"GET", "/tare/images/diff?from=a", "", "", 400, "from and to say which images are compared"},
		{"GET", "/tare/images/layers", "", "", 200, "[]"},
		{"GET", "/tare/images/mounts", "", "", 200, "[]"},
		{"POST", "/tare/images/mounts", "application/json", `{"Image":"a","Target":"/t"}`, 200, `{"ID":"i","Name":"a","Path":"/m"}`},
		{"DELETE", "/tare/images/mounts?name=a&force=1", "", "", 200, "[]"},
		{"DELETE", "/tare/images/mounts", "", "", 400, "either name says which image is unmounted, or all=true"},
		{"DELETE", "/tare/images/mounts?name=a&all=1", "", "", 400, "either name says which image is unmounted, or all=true"},
		{"GET", "/tare/containers/layers?container=a", "", "", 200, `[{"Dir":"/d","Perm":"rw","Part":"container"}]`},
		{"GET", "/tare/containers/layers?container=gone", "", "", 404, "No such container: gone"},
		{"GET", "/tare/containers/layers", "", "", 400, "container says whose layers are meant"},
		{"POST", "/tare/containers/layers", "application/json", `{"Container":"a","Image":"i","Index":-1}`, 204, ""},
		{"POST", "/tare/containers/layers", "application/json", `{"Image":"i"}`, 400, "container says whose layers are meant"},
		{"PUT", "/tare/containers/layers", "application/json", `{"Container":"a","Dir":"/d","Perm":"ro"}`, 204, ""},
		{"DELETE", "/tare/containers/layers?container=a&dir=/d", "", "", 204, ""},
		{"DELETE", "/tare/containers/layers?container=gone&image=i", "", "", 404, "No such container: gone"},
		{"POST", "/tare/containers/publish", "application/json", `{"Container":"a","Add":{"80/tcp":[{"HostPort":"8080"}]}}`, 204, ""},
		{"POST", "/tare/containers/publish", "application/json", `{"Container":"gone"}`, 404, "No such container: gone"},
		{"POST", "/tare/containers/publish", "application/json", `{}`, 400, "Container says whose ports are published"},
		{"POST", "/tare/containers/options", "application/json", `{"Container":"a","Options":{"tare.net-rate-in":"1mbit"}}`, 204, ""},
		{"POST", "/tare/containers/options", "application/json", `{"Container":"gone"}`, 404, "No such container: gone"},
		{"POST", "/tare/containers/options", "application/json", `{}`, 400, "Container says whose options change"},
		{"GET", "/tare/manifest?ref=a&insecure=1&members=1", "", "", 200, `{"Ref":"a",`},
		{"GET", "/tare/manifest?ref=nope", "", "", 404, "no such manifest: nope"},
		{"POST", "/tare/manifest", "application/json", `{"Index":{"Ref":"a"}}`, 200, `{"status":"sha256:`},
		{"POST", "/tare/manifest", "application/json", `{"Index":{"Ref":"nope"}}`, 403, "no basic auth credentials"},
		{"POST", "/tare/manifest", "application/json", "null x", 400, "invalid JSON: invalid character 'x' after top-level value"},
		{"GET", "/tare/images/blobs?names=a&names=b", "", "", 200, `[{"ID":"a","Names":["a","b"],"Manifest":"b","Layers":[]}]`},
		{"GET", "/tare/images/blobs", "", "", 400, "no image names specified"},
		{"POST", "/tare/images/missing", "application/json", `{"Layers":[{"Digest":"a","DiffID":"b","Size":1}]}`, 200, `{"Missing":["a"]}`},
		{"POST", "/tare/images/missing", "application/json", `{"Layers":[{"Digest":"a","DiffID":"b","Size":-1}]}`, 400, "a size below zero"},
		{"POST", "/tare/images/save", "application/json", `{"Images":["img"],"Since":["b"],"Without":["c"]}`, 200, "archive"},
		{"POST", "/tare/images/save", "application/json", `{"Since":["b"]}`, 400, "no image names specified"},
		{"POST", "/images/a/b:1/pin", "", "", 204, ""},
		{"POST", "/images/a/b:1/unpin", "", "", 204, ""},
		{"GET", "/images/json", "", "", 200, `"LastUsed":0,"Pinned":false`},
		{"GET", "/v1.43/images/json", "", "", 200, `"LastUsed":0,"Pinned":false,"VirtualSize":42`},
		{"GET", "/images/img/json", "", "", 200, `"LastUsed":"","Pinned":false`},
		{"POST", "/tare/images/verify", "application/json", `{"Images":["a"]}`, 200, `{"Image":{"ID":"a","Names":[],"Blobs":0,"Layers":0,"Damaged":0,"Repaired":0}}`},
		{"POST", "/tare/images/verify", "application/json", `{"Images":["fails"]}`, 200, `{"Error":"disk on fire"}`},
		{"POST", "/tare/images/repair", "application/json", `{"Images":["nosuch"]}`, 404, "No such image: nosuch"},
		{"POST", "/tare/images/repair", "application/json", `{}`, 200, ""},
		{"POST", "/tare/images/import-engine", "application/json", `{}`, 400, "the path must be absolute"},
		{"POST", "/tare/images/import-engine", "application/json", `{"Dir":"/d","Images":["a"]}`, 200, `{"stream":"Imported image: a\n"}`},
		{"POST", "/tare/images/import-engine", "application/json", `{"Dir":"/d","Images":["a"]}`, 200, `"error":"the rest was not imported"`},
		{"GET", "/tare/stats", "", "", 200, `[{"name":"/c1"`},
		{"GET", "/containers/c1/top?ps_args=aux", "", "", 200, `"Titles":["PID","CMD"]`},
		{"POST", "/containers/c1/attach?detachKeys=ctrl-1", "", "", 400, "Invalid detach keys ctrl-1 provided"},
		{"POST", "/containers/nope/attach?stream=1", "", "", 404, "No such container: nope"},
		{"POST", "/exec/nope/start", "application/json", `{}`, 404, "No such exec instance: nope"},
		{"POST", "/exec/e1/start", "application/json", `{"Detach":true}`, 200, ""},

		// Lists and filters.
		{"GET", "/containers/c1/changes", "", "", 200, `[{"Kind":1,"Path":"/a"}]`},
		{"GET", "/containers/c2/changes", "", "", 200, "null\n"},
		{"GET", "/containers/nope/changes", "", "", 404, "No such container: nope"},
		{"GET", "/containers/json?limit=99", "", "", 200, "[]\n"},
		{"GET", "/containers/json?limit=x", "", "", 400, `invalid value for limit: "x": invalid syntax`},
		{"GET", `/containers/json?filters={"nope":["x"]}`, "", "", 400, "invalid filter 'nope'"},
		{"GET", `/containers/json?filters={"label":`, "", "", 400, "invalid filter: unexpected end of JSON input"},
		{"GET", `/containers/json?filters={"label":["a=b"]}`, "", "", 200, fakeID},
		{"GET", "/images/img/history", "", "", 200, "[]\n"},
		{"GET", `/images/img/json?platform={"os":"linux","architecture":"arm64"}`, "", "", 404, "not for arm64"},
		{"GET", `/images/img/json?platform={"os":"linux","architecture":"amd64"}`, "", "", 200, fakeID},
		{"GET", `/images/img/history?platform={"os":"linux","architecture":"arm64"}`, "", "", 404, "not for arm64"},
		{"GET", `/v1.47/images/img/history?platform={"os":"linux","architecture":"arm64"}`, "", "", 200, "[]\n"},
		{"GET", `/images/img/attestations?statement=1&type=a&type=+&type=b&platform={"os":"linux","architecture":"amd64"}`, "", "", 200, `"PredicateType":"a+b","Statement":{"a":1}}]`},
		{"GET", `/images/img/attestations?platform={"os":"linux","architecture":"amd64"}&platform={"os":"linux","architecture":"arm64"}`, "", "", 400, "only one platform value is currently supported"},
		{"GET", "/images/a/b:1/attestations", "", "", 404, "No such image: a/b:1"},
		{"GET", "/v1.54/images/img/attestations", "", "", 404, "page not found"},
		{"DELETE", `/images/img?platforms={"os":"linux","architecture":"arm64"}`, "", "", 404, "not for arm64"},
		{"DELETE", `/v1.49/images/img?platforms={"os":"linux","architecture":"arm64"}`, "", "", 200, `"Untagged":"img"`},
		{"GET", "/images/img/json?platform=linux", "", "", 400, "failed to parse platform: invalid character 'l' looking for beginning of value"},
		{"GET", `/v1.48/images/img/json?platform=linux`, "", "", 200, fakeID},
		{"GET", `/images/img/json?manifests=1&platform={"os":"linux","architecture":"amd64"}`, "", "", 400, "conflicting options: manifests and platform options cannot both be set"},
		{"GET", "/images/img/json?manifests=1", "", "", 200, `"Manifests":[{`},
		{"GET", "/images/json?manifests=1", "", "", 200, `"Manifests":[{`},
		{"GET", "/images/json?identity=1", "", "", 400, "conflicting options: identity requires manifests=1"},
		{"POST", "/images/load?platform=linux", "application/x-tar", "good", 400, "failed to parse platform: invalid character 'l' looking for beginning of value"},
		{"POST", `/images/load?platform={"os":"linux"}`, "application/x-tar", "good", 400, "both OS and Architecture must be provided"},
		{"POST", `/images/load?platform={"variant":"v7"}`, "application/x-tar", "good", 400, "optional platform fields provided, but OS and Architecture are missing"},
		{"POST", `/v1.51/images/load?platform={"os":"linux","architecture":"arm64"}&platform={"os":"linux","architecture":"amd64"}`, "application/x-tar", "good", 400, "multiple platform parameters are not supported in this API version; use API version 1.52 or later"},
		{"POST", `/v1.47/images/load?platform=linux`, "application/x-tar", "good", 200, "Loaded"},
		{"POST", "/images/img/tag?repo=r&tag=t", "", "", 201, ""},
		{"POST", "/images/load", "application/x-tar", "good", 200, `{"stream":"Loaded image: img:latest\n"}`},
		{"POST", "/images/load", "application/x-tar", "bad", 200, `{"errorDetail":{"message":"archive: not a tar"},"error":"archive: not a tar"}`},
		{"GET", "/networks/", "", "", 200, `"Name":"bridge"`},
		{"POST", "/networks/create", "application/json", `{"Name":"n"}`, 201, `{"Id":"made-n","Warning":""}`},
		{"POST", "/networks/create", "application/json", `{"Name":"taken"}`, 409, "network with name taken already exists"},
		{"DELETE", "/networks/n", "", "", 204, ""},
		{"POST", "/networks/n/connect", "application/json", `{"Container":"c"}`, 200, ""},
		{"POST", "/networks/n/connect", "application/json", `{"Container":"gone"}`, 404, "No such container: gone"},
		{"POST", "/networks/n/disconnect", "application/json", `{"Container":"c","Force":true}`, 200, ""},
		{"POST", "/networks/n/disconnect", "application/json", `{"Container":"out"}`, 403, "container out is not connected to network n"},
		{"DELETE", "/networks/bridge", "", "", 403, "bridge is a pre-defined network and cannot be removed"},
		{"GET", "/tare/networks/explain?from=a&to=b&port=80/tcp", "", "", 200, `{"From":"a","To":"b","Proto":"80/tcp","Verdict":"blocked"`},
		{"GET", "/networks/bridge?verbose=1", "", "", 200, `"Name":"bridge"`},
		{"GET", "/networks/bridge?verbose=foo", "", "", 400, `invalid value for verbose: foo: strconv.ParseBool: parsing "foo": invalid syntax`},
		{"GET", "/networks/nope", "", "", 404, "network nope not found"},
		{"GET", "/volumes", "", "", 200, `{"Volumes":[],"Warnings":[]}`},
		{"POST", api.VolumeClonePath, "application/json", `{"Source":"a","Name":"b"}`, 201, `"Mountpoint":"a","Name":"b"`},
		{"POST", api.VolumeRenamePath, "application/json", `{"Source":"a","Name":"b"}`, 200, `"Mountpoint":"a","Name":"b"`},
		{"GET", api.VolumeArchivePath + "?name=v", "", "", 200, "files of v"},
		{"GET", api.VolumeArchivePath + "?name=gone", "", "", 404, "get gone: no such volume"},
		{"PUT", api.VolumeArchivePath + "?name=v&replace=1", "application/x-tar", "bytes", 200, `"Mountpoint":"bytes"`},
		{"PUT", api.VolumeArchivePath + "?name=v", "application/x-tar", "bytes", 409, "volume v is not empty"},
		{"HEAD", api.VolumeFilesPath + "?name=v&path=/a", "", "", 200, ""},
		{"GET", api.VolumeFilesPath + "?name=v&path=/a", "", "", 200, "archive of /a"},
		{"GET", api.VolumeFilesPath + "?name=gone&path=/a", "", "", 404, "get gone: no such volume"},
		{"GET", api.VolumeFilesPath + "?name=v", "", "", 400, "bad parameter: pathcannot be empty"},
		{"PUT", api.VolumeFilesPath + "?name=v&path=/a", "application/x-tar", "tar", 200, ""},
		{"PUT", api.VolumeFilesPath + "?name=v", "application/x-tar", "tar", 400, "bad parameter: pathcannot be empty"},
		{"GET", api.VolumeSnapshotsPath + "?name=v", "", "", 200, `"Volume":"v","Name":"s"`},
		{"POST", api.VolumeSnapshotsPath, "application/json", `{"Volume":"v","Snapshot":"t"}`, 201, `"Name":"t"`},
		{"DELETE", api.VolumeSnapshotsPath + "?name=v&snapshot=t", "", "", 404, "volume v has no snapshot t"},
		{"POST", api.VolumeRollbackPath, "application/json", `{"Volume":"v","Snapshot":"t"}`, 409, "volume v is in use"},
		{"GET", api.VolumeUsagePath + "?name=v&name=w", "", "", 200, `"Name":"v+w"`},
		{"POST", api.VolumeReplacePath, "application/json", `{"Volume":"v","Old":"/dev/a","New":"/dev/b"}`, 409, "volume v: replace /dev/a by /dev/b"},
		{"POST", api.VolumeResizePath, "application/json", `{"Volume":"v","Size":5}`, 409, "volume v: 5"},
		{"PUT", api.VolumeKeyPath + "?name=v&size=6", "application/octet-stream", "secret" + strings.Repeat("\x00", 48<<10), 204, ""},
		{"PUT", api.VolumeKeyPath + "?name=v&size=6", "application/octet-stream", "wrong!", 403, "unlock volume v: the key is wrong"},
		{"PUT", api.VolumeKeyPath + "?name=v&size=7", "application/octet-stream", "secret", 400, "read a key of 7 bytes: unexpected EOF"},
		{"PUT", api.VolumeKeyPath + "?name=v&size=6", "application/octet-stream", "secret" + strings.Repeat("\x00", 80<<10), 400, "more than 65536 bytes follow the key"},
		{"PUT", api.VolumeKeyPath + "?name=v&size=5000", "application/octet-stream", "secret", 400, "bad parameter: size: a key has 1 to 4096 bytes"},
		{"DELETE", api.VolumeKeyPath + "?name=v", "", "", 409, "volume v is in use"},
		{"POST", "/volumes/create", "application/json", `{"Name":"v","Labels":{"a":"b"}}`, 201, `"Labels":{"a":"b"}`},
		{"GET", "/volumes/v", "", "", 200, `"Name":"v"`},
		{"GET", "/volumes/gone", "", "", 404, "get gone: no such volume"},
		{"DELETE", "/volumes/used", "", "", 409, "remove used: volume is in use - [c]"},
		{"DELETE", "/volumes/used?force=1", "", "", 204, ""},
		{"PUT", "/volumes/v?version=1", "application/json", `{}`, 503, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`},
		{"GET", "/system/df?type=nope", "", "", 400, "unknown object type: nope"},
		{"GET", "/events?since=2&until=1", "", "", 400, "`since` time (2) cannot be after `until` time (1)"},
		{"GET", `/events?filters={"nope":["x"]}`, "", "", 400, "invalid filter 'nope'"},

		// No swarm, no plugins.
		{"GET", "/swarm", "", "", 503, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`},
		{"GET", "/services/x", "", "", 503, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`},
		{"POST", "/swarm/leave", "", "", 503, "This node is not part of a swarm"},
		{"POST", "/swarm/init", "application/json", "{}", 501, "Swarm mode is not offered: Tare runs the containers of one machine; use Kubernetes to spread them over several"},
		{"GET", "/plugins", "", "", 200, "[]\n"},
		{"POST", "/build/prune", "", "", 200, `{"CachesDeleted":[],"SpaceReclaimed":0}`},
		{"POST", "/images/create", "", "", 400, "neither fromImage nor fromSrc says where the image comes from"},
		{"POST", "/images/create?fromImage=private&tag=1", "", "", 403, "no basic auth credentials"},
		{"POST", "/images/create?fromImage=missing&tag=1", "", "", 404, "manifest for missing not found"},
		{"POST", "/images/create?fromImage=x&tag=1", "", "", 200, `{"status":"Pulling from x","id":"1"}`},
		{"POST", "/images/create?fromImage=broken&tag=1", "", "", 200, `"error":"the layer is broken"`},
		{"POST", "/images/create?fromImage=x&platform=a/b/c/d", "", "", 400, `"a/b/c/d": cannot parse platform specifier: invalid argument`},
		{"POST", "/images/create?fromImage=x&platform=foobar", "", "", 400, `"foobar": unknown operating system or architecture: invalid argument`},
		{"GET", "/images/search?term=x&limit=5", "", "", 200, "[]"},
		{"POST", "/auth", "application/json", `{"serveraddress":"h","password":"wrong"}`, 401, "unauthorized: incorrect username or password"},
		{"POST", "/auth", "application/json", `{"serveraddress":"h","password":"right"}`, 200, `{"Status":"Login Succeeded"}`},
		{"GET", "/distribution/a/b:1/json", "", "", 200, `"Platforms":[]`},
		// Images and archives.
		{"POST", "/commit?container=c1", "", "", 201, `{"Id":"sha256:` + fakeID + `"}`},
		{"POST", "/commit?container=nope", "", "", 404, "No such container: nope"},
		{"POST", "/commit?container=c1", "application/json", `{"Cmd":`, 400, "invalid JSON: unexpected end of JSON input"},
		{"POST", "/commit?container=c1", "text/plain", `{}`, 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"GET", "/containers/c1/export", "", "", 200, "files"},
		{"GET", "/containers/nope/export", "", "", 404, "No such container: nope"},
		{"HEAD", "/containers/c1/archive?path=/a", "", "", 200, ""},
		{"GET", "/containers/c1/archive?path=/a", "", "", 200, "archive of /a"},
		{"GET", "/containers/c1/archive?path=", "", "", 400, "bad parameter: pathcannot be empty"},
		{"GET", "/containers/nope/archive?path=/a", "", "", 404, "No such container: nope"},
		{"PUT", "/containers/c1/archive?path=/a&copyUIDGID=1", "application/x-tar", "tar", 200, ""},
		{"PUT", "/containers/c1/archive", "application/x-tar", "tar", 400, "bad parameter: pathcannot be empty"},
		{"GET", "/images/get?names=img", "", "", 200, "archive"},
		{"GET", "/images/host.example/a/img:1/get", "", "", 200, "archive"},
		{"GET", "/images/get?names=img&names=nope", "", "", 404, "No such image: nope"},
		{"GET", "/images/get", "", "", 400, "no image names specified"},
		{"GET", "/images/img/get?platform=linux", "", "", 400, "failed to parse platform: invalid character 'l' looking for beginning of value"},
		{"GET", "/v1.47/images/img/get?platform=linux", "", "", 200, "archive"},
		{"GET", `/v1.51/images/img/get?platform={"os":"linux","architecture":"arm64"}&platform={"os":"linux","architecture":"amd64"}`, "", "", 400, "multiple platform parameters are not supported in this API version; use API version 1.52 or later"},
		{"POST", "/images/create?fromSrc=-&repo=r:t", "application/x-tar", "good", 200, `{"status":"sha256:` + fakeID + `"}`},
		{"POST", "/images/create?fromSrc=-", "application/x-tar", "bad", 400, "archive: not a tar"},
		{"GET", "/tare/nothing", "", "", 404, "page not found"},
		{"POST", "/images/create?fromSrc=-&platform=a/b/c/d", "application/x-tar", "good", 400, `"a/b/c/d": cannot parse platform specifier: invalid argument`},
		{"POST", "/v1.31/images/create?fromSrc=-&platform=a/b/c/d", "application/x-tar", "good", 200, fakeID},
	}
	c := unixClient(t, newServer(t, &fake{}))
	for _, tt := range tests {
		res, body := do(t, c, tt.method, strings.ReplaceAll(tt.target, `"`, "%22"), tt.contentType, tt.body)
		name := fmt.Sprintf("%s %s %.40q", tt.method, tt.target, tt.body)
		if res.StatusCode != tt.status {
			t.Errorf("%s: status %d, want %d: %s", name, res.StatusCode, tt.status, body)
		}
		own := strings.Contains(tt.target, api.OwnRoutes) && tt.want != "page not found"
		if known := res.Header.Get(api.OwnHeader) != ""; known != own {
			t.Errorf("%s: %s: %v", name, api.OwnHeader, known)
		}
		if res.StatusCode >= 400 {
			var m struct{ Message string }
			if err := json.Unmarshal([]byte(body), &m); err != nil || res.Header.Get("Content-Type") != "application/json" {
				t.Errorf("%s: not a JSON error: %q", name, body)
			}
			if m.Message != tt.want {
				t.Errorf("%s: message\n%q, want\n%q", name, m.Message, tt.want)
			}
		} else if !strings.Contains(body, tt.want) || tt.want == "" && body != "" {
			t.Errorf("%s: body %q, want %q", name, body, tt.want)
		}
	}
}

func TestAnswersSayOfWhichTimeSizesAre(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{}))
	for target, want := range map[string]string{"/containers/json": "", "/containers/json?size=1": "2001-09-09T01:46:40.000000005Z"} {
		res, _ := do(t, c, "GET", target, "", "")
		if got := res.Header.Get(api.CountedHeader); got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
	}
}

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	c := unixClient(t, newServer(t, &fake{}))
	for _, target := range []string{"/_ping", "/v1.24/_ping", "/v1.99/info", "/nothing", "/containers/x/json"} {
		res, _ := do(t, c, "GET", target, "", "")
		for k, want := range map[string]string{"Api-Version": "1.56", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Tare/0.1 (linux)"} {
			if got := res.Header.Get(k); got != want {
				t.Errorf("%s: %s is %q, want %q", target, k, got, want)
			}
		}
	}
	res, _ := do(t, c, "HEAD", "/_ping", "", "")
	for k, want := range map[string]string{"Builder-Version": "2", "Swarm": "inactive", "Pragma": "no-cache", "Cache-Control": "no-cache, no-store, must-revalidate", "Content-Type": "text/plain; charset=utf-8", "Content-Length": "0"} {
		if got := res.Header.Get(k); got != want {
			t.Errorf("ping: %s is %q, want %q", k, got, want)
		}
	}
}

func TestPanicIsOneAnswer(t *testing.T) {
	f := &fake{panics: true}
	c := unixClient(t, newServer(t, f))
	if res, body := do(t, c, "GET", "/containers/c1/json", "", ""); res.StatusCode != 500 || !strings.Contains(body, "internal error") {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
	if res, _ := do(t, c, "GET", "/info", "", ""); res.StatusCode != 200 {
		t.Errorf("after a panic: status %d", res.StatusCode)
	}
}

// raw sends bytes and returns the first line of the answer.
func raw(t *testing.T, path, text string) string {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	go func() { _, _ = io.WriteString(c, text) }()
	line, _ := bufio.NewReader(c).ReadString('\n')
	return strings.TrimSpace(line)
}

func TestImproperHTTPIsRefused(t *testing.T) {
	path := newServer(t, &fake{})
	tests := map[string]struct{ text, want string }{
		"no host":         {"GET /info HTTP/1.1\r\n\r\n", "400"},
		"two hosts":       {"GET /info HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
		"negative length": {"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", "400"},
		"two lengths":     {"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", "400"},
		"bad percent":     {"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "400"},
		"bad chunk":       {"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "400"},
		"cut body":        {"POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n0\r\n\r\n", "400"},
		"unknown coding":  {"POST /containers/create HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "501"},
		"huge header":     {"GET /info HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2<<20) + "\r\n\r\n", "431"},
		"space in name":   {"GET /info HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", "400"},
		"TLS":             {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400"},
	}
	for name, tt := range tests {
		if line := raw(t, path, tt.text); !strings.HasPrefix(line, "HTTP/1.1 "+tt.want) {
			t.Errorf("%s: %q, want %s", name, line, tt.want)
		}
	}
}

func TestLengthAndChunksTogetherAreOneRequest(t *testing.T) {
	f := &fake{}
	path := newServer(t, f)
	// Either refused, or the chunks count and the connection ends: the bytes
	// behind them never are a second request.
	line := raw(t, path, "POST /containers/create HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n"+
		"f\r\n{\"Image\":\"img\"}\r\n0\r\n\r\nPOST /containers/c1/kill HTTP/1.1\r\nHost: a\r\n\r\n")
	time.Sleep(50 * time.Millisecond) // nothing may be called within
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, call := range f.calls {
		if strings.HasPrefix(call, "kill") {
			t.Errorf("smuggled a second request (answer %q)", line)
		}
	}
}

func TestDoorOnTCP(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &fake{}, Config{Names: []string{"engine.example"}})
	tests := []struct {
		host, origin string
		status       int
	}{
		{"127.0.0.1:2375", "", 200},
		{"localhost:2375", "", 200},
		{"[::1]:2375", "", 200},
		{"engine.example", "", 200},
		{"Engine.example:2376", "", 200},
		{"rebound.example", "", 403},
		{"127.0.0.1.rebound.example:2375", "", 403},
		{"127.0.0.1", "http://page.example", 403},
		{"localhost", "null", 403},
	}
	tr := &http.Transport{}
	defer tr.CloseIdleConnections()
	for _, tt := range tests {
		req, _ := http.NewRequest("GET", "http://"+l.Addr().String()+"/_ping", nil)
		req.Host = tt.host
		if tt.origin != "" {
			req.Header.Set("Origin", tt.origin)
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		if res.StatusCode != tt.status {
			t.Errorf("host %q origin %q: status %d, want %d", tt.host, tt.origin, res.StatusCode, tt.status)
		}
	}
}

func TestTooManyConnectionsAreToldSo(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &fake{}, Config{MaxConns: 2})
	var held []net.Conn
	for range 2 {
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(c, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		held = append(held, c)
	}
	if res, body := do(t, unixClient(t, l.Addr().String()), "GET", "/_ping", "", ""); res.StatusCode != 503 || !strings.Contains(body, "too many open connections") {
		t.Errorf("status %d: %s", res.StatusCode, body)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for deadline := time.Now().Add(5 * time.Second); ; {
		if res, _ := do(t, unixClient(t, l.Addr().String()), "GET", "/_ping", "", ""); res.StatusCode == 200 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("closed connections are counted for ever")
		}
	}
}

func TestIdleConnectionsMakeRoom(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	serve(t, l, &fake{}, Config{MaxConns: 2})
	for i := range 10 { // each client keeps its connection
		if res, body := do(t, unixClient(t, l.Addr().String()), "GET", "/_ping", "", ""); res.StatusCode != 200 {
			t.Fatalf("client %d: status %d: %s", i, res.StatusCode, body)
		}
	}
}

func BenchmarkRequest(b *testing.B) {
	c := unixClient(b, newServer(b, &fake{}))
	b.ReportAllocs()
	for b.Loop() {
		if res, _ := do(b, c, "POST", "/v1.51/containers/c1/kill?signal=TERM", "", ""); res.StatusCode != 204 {
			b.Fatal(res.StatusCode)
		}
	}
}

func TestEveryRouteIsReached(t *testing.T) {
	// A route that no path can reach would be dead code.
	for _, r := range routes {
		path := strings.ReplaceAll(r.pattern, "{name}", "x")
		for _, prefix := range []string{"", "/v1.24", "/v" + api.MaxVersion.String()} {
			_, rest := splitVersion(prefix + path)
			if h, _ := lookUp(r.method, rest); h == nil {
				t.Errorf("%s %s%s: no route", r.method, prefix, path)
			}
		}
	}
}

func TestHalfAHeaderIsNotWaitedFor(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	s := New(&fake{}, Config{})
	if s.http.ReadHeaderTimeout != headerTimeout {
		t.Fatal("no limit")
	}
	s.http.ReadHeaderTimeout = 50 * time.Millisecond
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Shutdown(t.Context()) }()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.WriteString(c, "GET /info HTTP/1.1\r\nHo")
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("still open: %v", err)
	}
}
