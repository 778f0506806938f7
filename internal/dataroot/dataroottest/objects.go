package dataroottest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
	bolt "go.etcd.io/bbolt"
)

// Objects of a data root that Docker makes beside the images.
const (
	ContainerID = "1c15fac0a59a1e5fd1d4c3c6dd0a2e6d7ba4d7f5d0d9a1d2e3f405162738495a"
	NetworkID   = "2c15fac0a59a1e5fd1d4c3c6dd0a2e6d7ba4d7f5d0d9a1d2e3f405162738495a"
	Anonymous   = "3c15fac0a59a1e5fd1d4c3c6dd0a2e6d7ba4d7f5d0d9a1d2e3f405162738495a"
	mountID     = "4c15fac0a59a1e5fd1d4c3c6dd0a2e6d7ba4d7f5d0d9a1d2e3f405162738495a"
)

// DockerObjects adds to a data root of Docker a volume "data" with the file "kept", an
// anonymous one, a network "net" and a container "moved" of the image, which has both
// volumes, is in the network, has written /new and has said "hello". Its databases are
// closed, as those of a stopped Docker are.
func DockerObjects(t testing.TB, dir string, image digest.Digest) {
	t.Helper()
	write(t, filepath.Join(dir, "volumes/data/_data/kept"), []byte("kept"))
	must(t, os.MkdirAll(filepath.Join(dir, "volumes", Anonymous, "_data"), 0o755))
	Database(t, filepath.Join(dir, "volumes/metadata.db"), "volumes", map[string]string{
		"data":    `{"Name":"data","Driver":"local","Labels":{"a":"b"},"Options":null}`,
		Anonymous: `{"Name":"` + Anonymous + `","Driver":"local","Labels":null,"Options":null}`,
	})
	// libkv writes a number before the document.
	Database(t, filepath.Join(dir, "network/files/local-kv.db"), "libnetwork", map[string]string{
		"docker/network/v1.0/network/" + NetworkID + "/": "\x01\x00\x00\x00\x00\x00\x00\x00" + `{"id":"` + NetworkID + `","name":"net","networkType":"bridge","scope":"local",
			"generic":{"com.docker.network.generic":{"com.docker.network.bridge.enable_icc":"true"}},"ipamType":"default","labels":{"n":"1"},
			"ipamV4Config":"[{\"PreferredPool\":\"10.97.0.0/16\",\"SubPool\":\"10.97.5.0/24\",\"Gateway\":\"\",\"AuxAddresses\":{\"printer\":\"10.97.0.7\"}}]",
			"ipamV4Info":"[{\"IPAMData\":\"{\\\"Gateway\\\":\\\"10.97.5.1/16\\\",\\\"Pool\\\":\\\"10.97.0.0/16\\\"}\",\"PoolID\":\"x\"}]"}`,
		"docker/network/v1.0/network/0000/":    `{"id":"0000","name":"bridge","networkType":"bridge"}`,
		"docker/network/v1.0/endpoint_count/x": `{"Count":0}`,
	})
	home := filepath.Join(dir, "containers", ContainerID)
	write(t, filepath.Join(home, "config.v2.json"), document(t, map[string]any{
		"ID": ContainerID, "Name": "/moved", "Created": "2024-01-02T03:04:05Z", "Image": image, "Driver": "overlay2",
		"HasBeenManuallyStopped": true,
		"Config":                 map[string]any{"Hostname": "moved", "Image": "another/image:1", "Cmd": []string{"/new"}, "Labels": map[string]string{"x": "y"}, "Volumes": map[string]any{"/anon": map[string]any{}}},
		"State":                  map[string]any{"ExitCode": 3, "StartedAt": "2024-01-02T03:04:06Z", "FinishedAt": "2024-01-02T03:04:07Z"},
		"NetworkSettings":        map[string]any{"Networks": map[string]any{"net": map[string]any{"NetworkID": NetworkID, "Aliases": []string{"www", ContainerID[:12]}}}},
		"MountPoints": map[string]any{
			"/anon":  map[string]any{"Type": "volume", "Name": Anonymous, "Driver": "local"},
			"/files": map[string]any{"Type": "volume", "Name": "data", "Driver": "local"},
		},
	}))
	write(t, filepath.Join(home, "hostconfig.json"), document(t, map[string]any{
		"Binds": []string{"data:/files"}, "NetworkMode": "net", "Runtime": "runc", "RestartPolicy": map[string]any{"Name": "unless-stopped"},
		"MaskedPaths": []string{"/proc/kcore"}, "LogConfig": map[string]any{"Type": "json-file"},
	}))
	write(t, filepath.Join(home, ContainerID+"-json.log.1"), []byte(`{"log":"hello\n","stream":"stdout","time":"2024-01-02T03:04:06Z"}`+"\n"))
	write(t, filepath.Join(home, ContainerID+"-json.log"), []byte(`{"log":"again\n","stream":"stderr","time":"2024-01-02T03:04:07Z"}`+"\n"))
	write(t, filepath.Join(dir, "image/overlay2/layerdb/mounts", ContainerID, "mount-id"), []byte(mountID))
	write(t, filepath.Join(dir, "overlay2", mountID, "diff/new"), []byte("new"))
}

// Database makes a database of bbolt with one bucket.
func Database(t testing.TB, file, bucket string, values map[string]string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(file), 0o755))
	db, err := bolt.Open(file, 0o600, &bolt.Options{NoSync: true})
	must(t, err)
	must(t, db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(bucket))
		for key, value := range values {
			if err == nil {
				err = b.Put([]byte(key), []byte(value))
			}
		}
		return err
	}))
	must(t, db.Close())
}

func document(t testing.TB, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	must(t, err)
	return b
}
