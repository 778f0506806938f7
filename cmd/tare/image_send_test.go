package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tare-engine/tare/api"
)

// layersOf are layers by name, of a thousand bytes each.
func layersOf(names ...string) []api.LayerBlob {
	var list []api.LayerBlob
	for _, n := range names {
		list = append(list, api.LayerBlob{Digest: n, DiffID: n, Size: 1000})
	}
	return list
}

// sender is an engine that has the image x:1 of three layers and x:2 of two.
func sender(t *testing.T) *fakeEngine {
	e := newFakeEngine(t)
	e.on("GET "+api.ImageBlobsPath, func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode([]api.ImageBlobs{{ID: "1", Layers: layersOf("a", "b", "c")}, {ID: "2", Layers: layersOf("a", "d")}})
	})
	e.on("POST "+api.ImageSavePath, func(w http.ResponseWriter, r *http.Request) {
		var what api.ImageSaveRequest
		json.NewDecoder(r.Body).Decode(&what)
		io.WriteString(w, "without "+strings.Join(what.Without, ","))
	})
	e.on("GET /images/get", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "whole") })
	return e
}

// receiver is an engine that has layers; it takes archives that go without no
// others. loaded are those that came.
func receiver(t *testing.T, has func() []string) (e *fakeEngine, loaded *[]string) {
	e, loaded = newFakeEngine(t), new([]string)
	e.on("POST "+api.ImageMissingPath, func(w http.ResponseWriter, r *http.Request) {
		var asked api.ImageMissingRequest
		json.NewDecoder(r.Body).Decode(&asked)
		answer := api.ImageMissing{Missing: []string{}}
		have := has()
		for _, l := range asked.Layers {
			if !slices.Contains(have, l.Digest) {
				answer.Missing = append(answer.Missing, l.Digest)
			}
		}
		json.NewEncoder(w).Encode(answer)
	})
	e.on("POST /images/load", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		*loaded = append(*loaded, string(b))
		without, _ := strings.CutPrefix(string(b), "without ")
		for d := range strings.FieldsFuncSeq(without, func(r rune) bool { return r == ',' }) {
			if b[0] == 'w' && len(without) < len(b) && !slices.Contains(has(), d) {
				io.WriteString(w, `{"errorDetail":{"message":"layer `+d+` is not here"},"error":"x"}`)
				return
			}
		}
		io.WriteString(w, `{"stream":"Loaded image: x:1\n"}`)
	})
	return e, loaded
}

// send runs `tare image send x:1 x:2 TO`.
func send(t *testing.T, from *fakeEngine, to string) (out, notes string, err error) {
	t.Helper()
	c := &cli{}
	for at, f := range map[string]**os.File{"out": &c.out, "err": &c.err} {
		file, ferr := os.Create(filepath.Join(t.TempDir(), at))
		if ferr != nil {
			t.Fatal(ferr)
		}
		defer file.Close()
		*f = file
	}
	c.global.config = t.TempDir()
	c.global.hosts = []string{from.host}
	cl, err := c.connect()
	if err != nil {
		t.Fatal(err)
	}
	err = runImageSend(context.Background(), c, cl, sendOptions{}, []string{"x:1", "x:2"}, to)
	o, _ := os.ReadFile(c.out.Name())
	n, _ := os.ReadFile(c.err.Name())
	return string(o), string(n), err
}

func TestSendGoesWithoutWhatIsThere(t *testing.T) {
	for has, want := range map[string][2]string{
		"":        {"without ", "sent 4 of 4 layers, 4kB of 4kB"},
		"a c x":   {"without a,c", "sent 2 of 4 layers, 2kB of 4kB"},
		"a b c d": {"without a,b,c,d", "sent 0 of 4 layers, 0B of 4kB"},
	} {
		to, loaded := receiver(t, func() []string { return strings.Fields(has) })
		out, notes, err := send(t, sender(t), to.host)
		if err != nil || out != "Loaded image: x:1\n"+want[1]+"\n" || notes != "" || !slices.Equal(*loaded, []string{want[0]}) {
			t.Errorf("%q: %q, %q, %q, %v", has, out, notes, *loaded, err)
		}
	}
}

func TestSendAmongOtherEngines(t *testing.T) {
	docker := newFakeEngine(t)
	docker.on("GET /images/get", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "whole") })
	docker.stream("POST /images/load", func(string, string) {}, `{"stream":"Loaded image: x:1\n"}`)
	out, notes, err := send(t, sender(t), docker.host)
	if err != nil || out != "Loaded image: x:1\nsent 4 of 4 layers, 4kB of 4kB\n" || notes != "The engine at "+docker.host+" is no tared: it gets all layers.\n" {
		t.Errorf("%q, %q, %v", out, notes, err)
	}
	to, loaded := receiver(t, func() []string { return []string{"a"} })
	out, notes, err = send(t, docker, to.host)
	if err != nil || out != "Loaded image: x:1\nsent 5B\n" || notes != "The engine at "+docker.host+" is no tared: it sends all layers.\n" || !slices.Equal(*loaded, []string{"whole"}) {
		t.Errorf("%q, %q, %q, %v", out, notes, *loaded, err)
	}
}

func TestSendBesideARemoval(t *testing.T) {
	// What was there at the first question is not there any more.
	questions := 0
	to, loaded := receiver(t, func() []string {
		if questions++; questions == 1 {
			return []string{"a", "b"}
		}
		return []string{"b"}
	})
	out, notes, err := send(t, sender(t), to.host)
	if err != nil || !strings.HasSuffix(out, "sent 3 of 4 layers, 3kB of 4kB\n") || !strings.Contains(notes, "has lost layers meanwhile") ||
		!slices.Equal(*loaded, []string{"without a,b", "without b"}) {
		t.Errorf("%q, %q, %q, %v", out, notes, *loaded, err)
	}
	// An error that has nothing to do with it is not tried again.
	to, _ = receiver(t, func() []string { return []string{"a"} })
	times := 0
	to.stream("POST /images/load", func(string, string) { times++ }, `{"errorDetail":{"message":"no space left on device"}}`)
	if out, _, err := send(t, sender(t), to.host); err == nil || !strings.Contains(err.Error(), "no space left") || times != 1 || strings.Contains(out, "sent") {
		t.Errorf("%q, %v, %d times", out, err, times)
	}
}

func TestSendOfABrokenStream(t *testing.T) {
	from := sender(t)
	from.on("POST "+api.ImageSavePath, func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	})
	to, loaded := receiver(t, func() []string { return nil })
	out, _, err := send(t, from, to.host)
	if err == nil || !strings.HasPrefix(err.Error(), "read the images from "+from.host+": ") || len(*loaded) > 0 || out != "" {
		t.Errorf("%q, %q, %v", out, *loaded, err)
	}
}

func TestSendDestinations(t *testing.T) {
	for dest, want := range map[string]string{"file:x.tar": "x.tar", "file:///a/x": "/a/x", "./x": "./x", "/a/x": "/a/x", "a/b": "a/b"} {
		if path, ok := fileOf(dest); !ok || path != want {
			t.Errorf("%s: %q, %v", dest, path, ok)
		}
	}
	dir := t.TempDir()
	writeContext(t, dir, "far", "tcp://1.2.3.4:5")
	t.Setenv("TARE_HOST", "unix:///t")
	for dest, want := range map[string]string{
		"unix:///a/b": "unix:///a/b", "ssh://me@there": "ssh://me@there", "tcp://h": "tcp://h", "there:2375": "tcp://there:2375", "far": "tcp://1.2.3.4:5", "default": "unix:///t",
	} {
		if _, ok := fileOf(dest); ok {
			t.Errorf("%s is taken for a file", dest)
		}
		e, err := (&cli{}).endpointOf(&configFile{dir: dir, CurrentContext: "far"}, dest)
		if err != nil || e.host != want {
			t.Errorf("%s: %s, %v", dest, e.host, err)
		}
	}
}

func TestSendToAFileWithoutName(t *testing.T) {
	err := runImageSend(t.Context(), &cli{}, nil, sendOptions{}, []string{"a"}, "file:")
	if err == nil || !strings.Contains(err.Error(), "names no file") {
		t.Error(err)
	}
}
