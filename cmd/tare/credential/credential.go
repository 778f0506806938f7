// Package credential keeps the credentials that users have for registries, where
// docker's command line keeps them too: in ~/.docker/config.json, or with a
// helper program that the file names.
//
//	{
//	  "auths": {"host:5000": {"auth": base64("name:password")}},
//	  "credsStore": "pass",              all servers: docker-credential-pass
//	  "credHelpers": {"host": "other"}   this one: docker-credential-other
//	}
//
// A server is a host with its port, or [Hub]. Older files have URLs in place of
// hosts; they are found all the same. The environment variable
// DOCKER_AUTH_CONFIG holds such a document with "auths" alone, which goes before
// the file and is never written.
//
// No error of this package bears a secret.
package credential

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/registry"
	"github.com/tare-engine/tare/cmd/tare/configfile"
)

// Store is where the credentials of a user are. It reads its file once; what is
// changed goes through to the file.
type Store struct {
	path string
	env  map[string]entry
	file struct {
		Auths       map[string]entry
		CredsStore  string
		CredHelpers map[string]string
	}
}

// entry is how a file has the credentials for a server.
type entry struct {
	Auth          string `json:"auth,omitempty"`
	Username      string `json:"username,omitempty"` // with the password, in place of auth: read, not written
	Password      string `json:"password,omitempty"`
	IdentityToken string `json:"identitytoken,omitempty"`
	RegistryToken string `json:"registrytoken,omitempty"`
}

// Environment is the variable that may hold credentials.
const Environment = "DOCKER_AUTH_CONFIG"

// Open reads the file; that there is none is fine.
func Open(path string) (*Store, error) {
	s := &Store{path: path}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &s.file); err != nil {
			return nil, fmt.Errorf("loading config file: %s: %w", path, err)
		}
	}
	if text := os.Getenv(Environment); text != "" {
		var doc struct{ Auths map[string]entry }
		if json.Unmarshal([]byte(text), &doc) != nil { // its text might show a part of the document
			return nil, errors.New(Environment + ": not a document with credentials")
		}
		s.env = doc.Auths
	}
	return s, nil
}

// Get returns the credentials for a server, with its name as ServerAddress. They
// are empty if there are none.
func (s *Store) Get(server string) (registry.AuthConfig, error) {
	if e, ok := find(s.env, server); ok {
		return e.config(server)
	}
	if h := s.helper(server); h != "" {
		return h.get(server)
	}
	e, _ := find(s.file.Auths, server)
	return e.config(server)
}

// Set keeps credentials for a.ServerAddress. plain says that a password is in
// the file now that was not there before, readable for whoever reads the file.
func (s *Store) Set(a registry.AuthConfig) (plain bool, err error) {
	server := a.ServerAddress
	found := ""
	if s.file.CredsStore == "" && len(s.file.CredHelpers) == 0 && len(s.file.Auths) == 0 {
		found = installedHelper()
		s.file.CredsStore = found
	}
	var e entry // what a helper keeps is listed in the file, without secrets
	if h := s.helper(server); h != "" {
		if err := h.set(a); err != nil {
			return false, err
		}
	} else {
		e = entryOf(a)
	}
	if old, ok := s.file.Auths[server]; ok && old == e && found == "" {
		return false, nil
	}
	err = s.edit(func(f configfile.Fields, auths configfile.Fields) error {
		if found != "" {
			if err := f.Set("credsStore", found); err != nil {
				return err
			}
		}
		return auths.Set(server, e)
	})
	return err == nil && a.Password != "" && e != entry{}, err
}

// Erase forgets the credentials for a server, under all names it may have.
func (s *Store) Erase(server string) error {
	var failed []error
	names := namesOf(server)
	if h := s.helper(server); h != "" {
		for _, name := range names {
			if err := h.erase(name); err != nil {
				failed = append(failed, fmt.Errorf("%s: %w", name, err))
			}
		}
		if len(failed) < len(names) { // most have it under one name only
			failed = nil
		}
	}
	same := func(key string, _ json.RawMessage) bool {
		return ServerOf(key) == server || slices.Contains(names, key)
	}
	known := false
	for key := range s.file.Auths {
		known = known || same(key, nil)
	}
	if known {
		failed = append(failed, s.edit(func(_, auths configfile.Fields) error {
			maps.DeleteFunc(auths, same)
			return nil
		}))
	}
	return errors.Join(failed...)
}

// edit changes the file, and its "auths" therein.
func (s *Store) edit(change func(all, auths configfile.Fields) error) error {
	return configfile.Edit(s.path, func(all configfile.Fields) error {
		auths := configfile.Fields{}
		if text := all["auths"]; text != nil {
			if err := json.Unmarshal(text, &auths); err != nil {
				return fmt.Errorf(`loading config file: %s: "auths": %w`, s.path, err)
			}
		}
		if auths == nil {
			auths = configfile.Fields{}
		}
		if err := change(all, auths); err != nil {
			return err
		}
		return all.Set("auths", auths)
	})
}

// Servers lists those with credentials.
func (s *Store) Servers() []string {
	var list []string
	for key := range s.file.Auths {
		list = append(list, ServerOf(key))
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// helper is the program that keeps the credentials for a server, "" if none does.
func (s *Store) helper(server string) helper {
	if name, ok := find(s.file.CredHelpers, server); ok {
		return helper(name)
	}
	return helper(s.file.CredsStore)
}

// config is what the engine is told.
func (e entry) config(server string) (registry.AuthConfig, error) {
	a := registry.AuthConfig{
		ServerAddress: server, Username: e.Username, Password: e.Password, IdentityToken: e.IdentityToken, RegistryToken: e.RegistryToken,
	}
	if e.Auth == "" {
		return a, nil
	}
	text, err := base64.StdEncoding.DecodeString(e.Auth)
	name, password, ok := strings.Cut(string(text), ":")
	if err != nil || !ok {
		return registry.AuthConfig{ServerAddress: server}, fmt.Errorf(`the configuration's "auth" of %s is not name:password in base64`, server)
	}
	a.Username, a.Password = name, strings.Trim(password, "\x00")
	return a, nil
}

func entryOf(a registry.AuthConfig) entry {
	e := entry{IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	if a.Username != "" || a.Password != "" {
		e.Auth = base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password))
	}
	return e
}
