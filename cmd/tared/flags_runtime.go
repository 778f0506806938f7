package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tare-engine/tare/internal/runtime/external"
)

// runtimesValue gathers runtimes: NAME=PATH as a flag, NAME={"path": …} from the
// configuration file, whose key has an object with a member each.
type runtimesValue struct{ list *[]external.Runtime }

func (v runtimesValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" || value == "" {
		return errors.New("want NAME=PATH")
	}
	r := external.Runtime{Name: name, Path: value}
	if err := external.CheckName(name); err != nil {
		return err
	}
	if value[0] == '{' {
		if err := decodeRuntime(&r, value); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(*v.list, func(x external.Runtime) bool { return x.Name == name }) {
		return fmt.Errorf("runtime %q is given twice", name)
	}
	*v.list = append(*v.list, r)
	return nil
}

// decodeRuntime reads a runtime's object. dockerd's other members are for shims
// of containerd.
func decodeRuntime(r *external.Runtime, object string) error {
	var in struct {
		Path        string          `json:"path"`
		Args        []string        `json:"runtimeArgs"`
		RuntimeType *string         `json:"runtimeType"`
		Options     json.RawMessage `json:"options"`
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(object)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&in); err != nil {
		return fmt.Errorf("runtime %q: %w", r.Name, err)
	}
	switch {
	case in.RuntimeType != nil:
		return fmt.Errorf("runtime %q: runtimeType is not supported: it names a shim of containerd; give path, of the runtime's OCI command line", r.Name)
	case len(in.Options) > 0:
		return fmt.Errorf("runtime %q: options is not supported: it is for a shim of containerd; give runtimeArgs", r.Name)
	case in.Path == "":
		return fmt.Errorf("runtime %q: a path is required", r.Name)
	}
	r.Path, r.Args = in.Path, in.Args
	return nil
}

func (v runtimesValue) String() string {
	words := make([]string, len(*v.list))
	for i, r := range *v.list {
		words[i] = strings.Join(append([]string{r.Name + "=" + r.Path}, r.Args...), " ")
	}
	return strings.Join(words, ",")
}

func (v runtimesValue) Type() string { return "runtimes" }

// runtimeWords turns the object of the key into what Set takes.
func runtimeWords(raw json.RawMessage) ([]string, error) {
	var all map[string]json.RawMessage
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`want an object such as {"NAME": {"path": "PATH"}}, not %s`, raw)
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		object := string(bytes.TrimSpace(all[name]))
		if !strings.HasPrefix(object, "{") {
			return nil, fmt.Errorf(`runtime %q: want an object such as {"path": "PATH"}, not %s`, name, object)
		}
		words = append(words, name+"="+object)
	}
	return words, nil
}
