package manifestlist

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const list, ref = "localhost:5000/team/app:1", "localhost:5000/team/app:amd64"

const document = `{
   "schemaVersion": 2,
   "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
   "config": {
      "mediaType": "application/vnd.docker.container.image.v1+json",
      "size": 2,
      "digest": "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
   },
   "layers": []
}`

// ofDocker is the file that docker's command line writes for it, but for Raw.
const ofDocker = `{"Ref":"localhost:5000/team/app:amd64","Descriptor":{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","digest":"DIGEST","size":SIZE,"platform":{"architecture":"amd64","os":"linux"}},RAW"SchemaV2Manifest":{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.v2+json","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"},"layers":[]}}`

// fileOf is docker's file with or without the bytes.
func fileOf(t testing.TB, raw string) string {
	t.Helper()
	d := digest.FromString(document)
	if raw != "" {
		b, err := json.Marshal([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		raw = `"Raw":` + string(b) + ","
	}
	return strings.NewReplacer("DIGEST", d.String(), "SIZE", fmt.Sprint(len(document)), "RAW", raw).Replace(ofDocker)
}

func made(t *testing.T, ref string) Manifest {
	t.Helper()
	at := ocispec.Descriptor{MediaType: dockerManifest, Digest: digest.FromString(document), Size: int64(len(document)), Platform: &ocispec.Platform{OS: "linux", Architecture: "amd64"}}
	m, err := New(ref, at, []byte(document))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// inHome is a store with a list whose one file has the text.
func inHome(t *testing.T, text string) (s Store, file string) {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "manifests")
	file = filepath.Join(dir, "localhost-5000_team_app-1", "localhost-5000_team_app-amd64")
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return NewStore(dir), file
}

// tree lists what is below a directory, with modes.
func tree(t *testing.T, dir string) (all []string) {
	t.Helper()
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			rel, _ := filepath.Rel(dir, path)
			all = append(all, info.Mode().String()+" "+rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestFilesAreDockers(t *testing.T) {
	home := filepath.Join(t.TempDir(), ".docker")
	s := NewStore(filepath.Join(home, "manifests"))
	if err := s.Create(list, []Manifest{made(t, ref)}); err != nil {
		t.Fatal(err)
	}
	want := []string{"drwx------ .", "drwxr-xr-x manifests", "drwxr-xr-x manifests/localhost-5000_team_app-1", "-rw-r--r-- manifests/localhost-5000_team_app-1/localhost-5000_team_app-amd64"}
	if diff := cmp.Diff(want, tree(t, home)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	b, err := os.ReadFile(filepath.Join(home, "manifests/localhost-5000_team_app-1/localhost-5000_team_app-amd64"))
	if err != nil || string(b) != fileOf(t, document) {
		t.Errorf("%v: got %s, want %s", err, b, fileOf(t, document))
	}
}

func TestDockersFilesAreRead(t *testing.T) {
	for name, raw := range map[string]string{"now": document, "before 23": ""} {
		s, _ := inHome(t, fileOf(t, raw))
		m, err := s.Get(list, ref)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b, err := m.Payload()
		if err != nil || string(b) != document {
			t.Errorf("%s: %v: %s", name, err, b)
		}
		all, err := s.List(list)
		if err != nil || len(all) != 1 || cmp.Diff(all[0], m) != "" {
			t.Errorf("%s: %+v, %v", name, all, err)
		}
		m.Descriptor.Platform.Variant = "v2"
		if err := s.Save(list, m); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again, err := s.Get(list, ref); err != nil || cmp.Diff(again, m) != "" {
			t.Errorf("%s: %+v, %v", name, again, err)
		}
	}
}

// FuzzManifest: what is taken has the digest it says, and is written as it was read.
func FuzzManifest(f *testing.F) {
	for _, raw := range []string{document, "", "{}"} {
		f.Add([]byte(fileOf(f, raw)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		raw, err := m.Payload()
		if err == nil && m.Descriptor.Digest.Algorithm().FromBytes(raw) != m.Descriptor.Digest {
			t.Errorf("%s is not %s", raw, m.Descriptor.Digest)
		}
		b, err = json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parse(b)
		if err != nil {
			t.Fatalf("%v: %s", err, b)
		}
		if c, err := json.Marshal(again); err != nil || string(c) != string(b) {
			t.Errorf("%v: %s, then %s", err, b, c)
		}
	})
}

func TestNotFound(t *testing.T) {
	s, _ := inHome(t, fileOf(t, document))
	for _, s := range []Store{s, NewStore(filepath.Join(t.TempDir(), "nosuch"))} {
		_, one := s.Get("h/x:1", "h/y:1")
		_, other := s.Get(list, "h/y:1")
		_, whole := s.List("h/x:1")
		for err, want := range map[error]string{one: "h/y:1", other: "h/y:1", whole: "h/x:1", s.Remove("h/x:1"): "h/x:1"} {
			if !IsNotFound(err) || err.Error() != "No such manifest: "+want {
				t.Errorf("%v, want %s", err, want)
			}
		}
		if there, err := s.Has("h/x:1"); there || err != nil {
			t.Errorf("%v, %v", there, err)
		}
	}
}

// TestHostileFiles: what is not what it says is refused, by its name, and can be
// removed.
func TestHostileFiles(t *testing.T) {
	good := fileOf(t, document)
	with := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	oci := strings.Replace(document, dockerManifest, ocispec.MediaTypeImageManifest, 1)
	for name, tc := range map[string]struct{ text, want string }{
		"nothing":        {"", "unexpected end of JSON input"},
		"no object":      {"[]", "cannot unmarshal"},
		"empty":          {"{}", `reference ""`},
		"null":           {"null", `reference ""`},
		"deep":           {strings.Repeat("[", 100_000), "exceeded max depth"},
		"large":          {good + strings.Repeat(" ", maxFile), "more than 16777216 bytes"},
		"reference":      {with(ref, `x\u001b[2J`), "reference"},
		"digest":         {with("sha256:"+digest.FromString(document).Encoded(), "sha256:../../x"), "invalid checksum digest"},
		"other digest":   {with(digest.FromString(document).Encoded(), digest.FromString("x").Encoded()), "internal digest mismatch for " + ref},
		"size":           {with(fmt.Sprintf(`"size":%d`, len(document)), `"size":1`), "internal digest mismatch"},
		"media type":     {with(dockerManifest, ocispec.MediaTypeImageIndex), "is none of an image's manifest"},
		"other field":    {with(`"SchemaV2Manifest"`, `"OCIManifest"`), "of the descriptor's media type"},
		"two documents":  {strings.TrimSuffix(good, "}") + `,"OCIManifest":` + oci + "}", "one document"},
		"no document":    {good[:strings.Index(good, `,"SchemaV2Manifest"`)] + "}", "one document"},
		"other document": {with(`"layers":[]`, `"layers":[{}]`), "the document is another one"},
		"bytes":          {with(`"Raw":"`, `"Raw":"AAAA`), "internal digest mismatch"},
		"no bytes":       {with(`"Raw":"`, `"Raw":"%`), "illegal base64"},
	} {
		t.Run(name, func(t *testing.T) {
			s, file := inHome(t, tc.text)
			_, one := s.Get(list, ref)
			_, all := s.List(list)
			for _, err := range []error{one, all} {
				if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.HasPrefix(err.Error(), "manifest list "+list+": invalid manifest file "+filepath.Base(file)+": ") {
					t.Errorf("%.300v, want %q", err, tc.want)
				}
			}
			if err := s.Remove(list); err != nil {
				t.Error(err)
			}
			if left := tree(t, s.dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
		})
	}
	t.Run("of another", func(t *testing.T) {
		s, file := inHome(t, good)
		other := filepath.Join(filepath.Dir(file), "localhost-5000_team_app-arm")
		if err := os.Rename(file, other); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get(list, "localhost:5000/team/app:arm")
		if err == nil || !strings.HasSuffix(err.Error(), "is of localhost:5000/team/app:amd64, not of localhost:5000/team/app:arm") {
			t.Error(err)
		}
	})
}

// TestHostileDirectory: links lead nowhere else, and nobody waits for a FIFO.
func TestHostileDirectory(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(outside, []byte(fileOf(t, document)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		do   func(file string) error
		want string
	}{
		"FIFO":      {func(f string) error { return syscall.Mkfifo(f, 0o600) }, "not a regular file"},
		"directory": {func(f string) error { return os.Mkdir(f, 0o700) }, "not a regular file"},
		"link":      {func(f string) error { return os.Symlink(outside, f) }, "escapes"},
		"dots":      {func(f string) error { return os.Symlink("../../../secret", f) }, "escapes|no such file"},
		"device":    {func(f string) error { return os.Symlink("/dev/zero", f) }, "escapes"},
		"loop":      {func(f string) error { return os.Symlink(filepath.Base(f), f) }, "too many levels"},
		"list": {func(f string) error {
			dir := filepath.Dir(f)
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.Symlink(filepath.Dir(outside), dir)
		}, "escapes"},
		"file for a list": {func(f string) error {
			dir := filepath.Dir(f)
			if err := os.Remove(dir); err != nil {
				return err
			}
			return os.WriteFile(dir, nil, 0o600)
		}, "not a directory"},
		"many files": {func(f string) error {
			for i := range maxManifests + 1 {
				if err := os.WriteFile(fmt.Sprint(f, i), nil, 0o600); err != nil {
					return err
				}
			}
			return nil
		}, "at most 1000 are possible"},
	} {
		t.Run(name, func(t *testing.T) {
			s, file := inHome(t, "")
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			if err := tc.do(file); err != nil {
				t.Fatal(err)
			}
			_, err := s.List(list)
			if err == nil || !strings.HasPrefix(err.Error(), "manifest list "+list+": ") || !slices.ContainsFunc(strings.Split(tc.want, "|"), func(w string) bool { return strings.Contains(err.Error(), w) }) {
				t.Errorf("%v, want %q", err, tc.want)
			}
			if err := s.Save(list, made(t, "localhost:5000/team/app:s390x")); name == "list" && err == nil {
				t.Error("saved outside")
			}
			if err := s.Remove(list); err != nil {
				t.Error(err)
			}
			if left := tree(t, s.dir); len(left) != 1 {
				t.Errorf("left behind: %q", left)
			}
			if all, err := os.ReadDir(filepath.Dir(outside)); err != nil || len(all) != 1 {
				t.Errorf("outside: %v, %v", all, err)
			}
		})
	}
}

// TestCreateIsWhole: a list that cannot be made leaves nothing.
func TestCreateIsWhole(t *testing.T) {
	s, _ := inHome(t, fileOf(t, document))
	before := tree(t, s.dir)
	long := "localhost/" + strings.Repeat("a", 250) + ":" + strings.Repeat("b", 128)
	for list, all := range map[string][]Manifest{
		"localhost/x:1": {made(t, "localhost/a:1"), made(t, long)},
		list:            {made(t, "localhost/a:1")}, // is there
	} {
		if err := s.Create(list, all); err == nil {
			t.Errorf("%s: no error", list)
		}
	}
	if err := s.Save(list, made(t, long)); err == nil {
		t.Error("no error")
	}
	if err := s.Save("localhost/x:1", made(t, ref)); err == nil {
		t.Error("saved in no list")
	}
	if diff := cmp.Diff(before, tree(t, s.dir)); diff != "" {
		t.Errorf("-before +after:\n%s", diff)
	}
}

func TestIndexIsDockers(t *testing.T) {
	a, b := made(t, "h/a:1"), made(t, "h/b:1")
	b.Descriptor.Platform = &ocispec.Platform{OS: "windows", Architecture: "arm64", Variant: "v8", OSVersion: "10.0", OSFeatures: []string{"<x>"}}
	for name, tc := range map[string]struct {
		first, mediaType string
	}{"docker": {dockerManifest, DockerList}, "OCI": {ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex}} {
		a.Descriptor.MediaType = tc.first
		mediaType, raw, err := Index("h/x:1", []Manifest{a, b})
		d := digest.FromString(document)
		want := fmt.Sprintf(`{
   "schemaVersion": 2,
   "mediaType": "%s",
   "manifests": [
      {
         "mediaType": "%s",
         "size": %d,
         "digest": "%s",
         "platform": {
            "architecture": "amd64",
            "os": "linux"
         }
      },
      {
         "mediaType": "%s",
         "size": %[3]d,
         "digest": "%[4]s",
         "platform": {
            "architecture": "arm64",
            "os": "windows",
            "os.version": "10.0",
            "os.features": [
               "\u003cx\u003e"
            ],
            "variant": "v8"
         }
      }
   ]
}`, tc.mediaType, tc.first, len(document), d, dockerManifest)
		if err != nil || mediaType != tc.mediaType || string(raw) != want {
			t.Errorf("%s: %v, %s:\n%s", name, err, mediaType, cmp.Diff(want, string(raw)))
		}
	}
	if _, _, err := Index("other/x:1", []Manifest{a}); err == nil || err.Error() != "cannot use source images from a different registry than the target image: h != other" {
		t.Error(err)
	}
	if _, raw, err := Index("h/x:1", nil); err != nil || !strings.Contains(string(raw), `"manifests": []`) {
		t.Errorf("%s, %v", raw, err)
	}
}
