package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// configFile is ~/.docker/config.json, as far as this command line heeds it.
type configFile struct {
	dir string // where it was found, with the contexts beside it

	CurrentContext string            `json:"currentContext"`
	DetachKeys     string            `json:"detachKeys"`
	HTTPHeaders    map[string]string `json:"HttpHeaders"`
	Proxies        map[string]proxy  `json:"proxies"`

	PsFormat       string `json:"psFormat"`
	ImagesFormat   string `json:"imagesFormat"`
	NetworksFormat string `json:"networksFormat"`
	StatsFormat    string `json:"statsFormat"`
}

// proxy is what containers of one engine are told to use.
type proxy struct {
	HTTPProxy  string `json:"httpProxy"`
	HTTPSProxy string `json:"httpsProxy"`
	NoProxy    string `json:"noProxy"`
	FTPProxy   string `json:"ftpProxy"`
	AllProxy   string `json:"allProxy"`
}

// configDir is where docker's command line keeps its files.
func configDir() string {
	if dir := os.Getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		home = "/"
	}
	return filepath.Join(home, ".docker")
}

func (c *configFile) path() string { return filepath.Join(c.dir, "config.json") }

// readConfig reads the file in dir; that there is none is fine.
func readConfig(dir string) (*configFile, error) {
	c := &configFile{dir: dir}
	text, err := os.ReadFile(c.path())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return c, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(text, c); err != nil {
		return nil, fmt.Errorf("loading config file: %s: %w", c.path(), err)
	}
	return c, nil
}

// setCurrentContext changes one key of the file and leaves all others as they
// are, those unknown to us too.
func (c *configFile) setCurrentContext(name string) error {
	all := map[string]json.RawMessage{}
	text, err := os.ReadFile(c.path())
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("loading config file: %s: %w", c.path(), err)
	}
	delete(all, "currentContext")
	if name != "" {
		all["currentContext"], _ = json.Marshal(name) // a string always has an encoding
	}
	if text, err = json.MarshalIndent(all, "", "\t"); err != nil {
		return err
	}
	if err := os.MkdirAll(c.dir, 0o700); err != nil {
		return err
	}
	return replaceFile(c.path(), text)
}

// replaceFile writes a file so that readers see the old or the new whole.
func replaceFile(path string, text []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
	}
	return err
}
