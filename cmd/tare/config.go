package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/cmd/tare/configfile"
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
	VolumesFormat  string `json:"volumesFormat"`
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

// setCurrentContext changes one key of the file.
func (c *configFile) setCurrentContext(name string) error {
	return configfile.Edit(c.path(), func(f configfile.Fields) error {
		if name == "" {
			return f.Set("currentContext", nil)
		}
		return f.Set("currentContext", name)
	})
}
