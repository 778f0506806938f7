package dataroot_test

import (
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/tare-engine/tare/internal/dataroot"
	"github.com/tare-engine/tare/internal/dataroot/dataroottest"
	"github.com/tare-engine/tare/internal/errdefs"
)

func docker(t *testing.T) (dir string) {
	dir = t.TempDir()
	dataroottest.DockerObjects(t, dir, digest.FromString("image"))
	return dir
}

func open(t *testing.T, dir string) *dataroot.Root {
	t.Helper()
	r, err := dataroot.OpenDocker(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func TestObjectsOfDocker(t *testing.T) {
	r := open(t, docker(t))
	volumes, err := r.Volumes()
	if err != nil || len(volumes) != 2 || volumes[1].Name != "data" || volumes[1].Labels["a"] != "b" {
		t.Errorf("volumes: %+v, %v", volumes, err)
	}
	networks, err := r.Networks()
	if err != nil || len(networks) != 1 {
		t.Fatalf("networks: %+v, %v", networks, err)
	}
	got, _ := json.Marshal(networks[0].Request)
	for _, want := range []string{`"Name":"net"`, `"Subnet":"10.97.0.0/16"`, `"IPRange":"10.97.5.0/24"`, `"Gateway":"10.97.5.1"`, `"printer":"10.97.0.7"`, `"com.docker.network.bridge.enable_icc":"true"`, `"n":"1"`} {
		if !strings.Contains(string(got), want) {
			t.Errorf("%s lacks %s", got, want)
		}
	}
	ids, err := r.ContainerIDs()
	if err != nil || len(ids) != 1 {
		t.Fatalf("containers: %q, %v", ids, err)
	}
	c, err := r.Container(ids[0])
	if err != nil || c.Name != "moved" || c.ExitCode != 3 || !c.Stopped || c.Volumes["/anon"] != dataroottest.Anonymous || c.HostConfig.Binds[0] != "data:/files" {
		t.Errorf("%+v, %v", c, err)
	}
	files, err := r.ContainerFiles(c)
	if err != nil {
		t.Fatal(err)
	}
	defer files.Close()
	log, err := r.ContainerLog(c.ID)
	if err != nil || len(log) != 2 {
		t.Fatal(len(log), err)
	}
	if b, _ := io.ReadAll(log[0]); !strings.Contains(string(b), "hello") {
		t.Errorf("the oldest file says %s", b)
	}
}

func TestARunningDockerIsSeen(t *testing.T) {
	dir := docker(t)
	if err := open(t, dir).Idle(); err != nil {
		t.Error(err)
	}
	f, err := os.Open(filepath.Join(dir, "network/files/local-kv.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil { // as bbolt does
		t.Fatal(err)
	}
	if err := open(t, dir).Idle(); !errdefs.Is(err, errdefs.Conflict) {
		t.Error(err)
	}
}

// TestHostileObjects: what is not as it should be is an error, and nothing outside the
// data root is read.
func TestHostileObjects(t *testing.T) {
	at := "containers/" + dataroottest.ContainerID + "/"
	database := func(name, bucket, key, value string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			dataroottest.Database(t, filepath.Join(dir, name), bucket, map[string]string{key: value})
		}
	}
	file := func(name, text string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	link := func(name string) func(t *testing.T, dir string) {
		return func(t *testing.T, dir string) {
			if err := os.RemoveAll(filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
			if err := os.Symlink("/etc", filepath.Join(dir, name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"volume of another name":  database("volumes/metadata.db", "volumes", "x", `{"Name":"../../etc"}`),
		"volume that is no JSON":  database("volumes/metadata.db", "volumes", "x", `{`),
		"network that is no JSON": database("network/files/local-kv.db", "libnetwork", "docker/network/v1.0/network/x/", `12345678`),
		"network's subnet":        database("network/files/local-kv.db", "libnetwork", "docker/network/v1.0/network/x/", `{"name":"x","ipamV4Info":"[{\"IPAMData\":\"{\\\"Pool\\\":\\\"x\\\"}\"}]"}`),
		"files of a volume":       link("volumes/data/_data"),
		"record":                  file(at+"config.v2.json", `{"ID":"other"}`),
		"record cut off":          file(at+"config.v2.json", `{"ID":`),
		"record without host":     link(at + "hostconfig.json"),
		"mount-id":                file("image/overlay2/layerdb/mounts/"+dataroottest.ContainerID+"/mount-id", "../../../etc"),
		"log":                     link(at + dataroottest.ContainerID + "-json.log"),
		"damaged database":        file("volumes/metadata.db", strings.Repeat("x", 8192)),
	} {
		t.Run(name, func(t *testing.T) {
			dir := docker(t)
			spoil(t, dir)
			if err := readAll(open(t, dir)); err == nil {
				t.Error("no error")
			} else if strings.Contains(err.Error(), "panic") {
				t.Error(err)
			}
		})
	}
	if err := readAll(open(t, docker(t))); err != nil {
		t.Error("sound: ", err)
	}
}

// readAll reads all objects until the first that cannot be read.
func readAll(r *dataroot.Root) error {
	volumes, err := r.Volumes()
	if err != nil {
		return err
	}
	for _, v := range volumes {
		f, err := r.VolumeFiles(v.Name)
		if err != nil {
			return err
		}
		f.Close()
	}
	if _, err := r.Networks(); err != nil {
		return err
	}
	ids, err := r.ContainerIDs()
	if err != nil {
		return err
	}
	for _, id := range ids {
		c, err := r.Container(id)
		if err != nil {
			return err
		}
		f, err := r.ContainerFiles(c)
		if err != nil {
			return err
		}
		f.Close()
		log, err := r.ContainerLog(id)
		if err != nil {
			return err
		}
		for _, f := range log {
			f.Close()
		}
	}
	return nil
}
