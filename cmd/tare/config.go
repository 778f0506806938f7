package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tare-engine/tare/cmd/tare/configfile"
)

// configFile is ~/.docker/config.json, as far as this command line heeds it.
type configFile struct {
	dir string // where it was found, with the contexts beside it

	CurrentContext string            `json:"currentContext"`
	DetachKeys     string            `json:"detachKeys"`
	HTTPHeaders    map[string]string `json:"HttpHeaders"`
	Proxies        map[string]proxy  `json:"proxies"`

	PruneFilters        []string          `json:"pruneFilters"`
	CLIPluginsExtraDirs []string          `json:"cliPluginsExtraDirs"`
	Aliases             map[string]string `json:"aliases"`

	PsFormat       string `json:"psFormat"`
	ImagesFormat   string `json:"imagesFormat"`
	NetworksFormat string `json:"networksFormat"`
	VolumesFormat  string `json:"volumesFormat"`
	PluginsFormat  string `json:"pluginsFormat"`
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

// header is sent with every request: DOCKER_CUSTOM_HEADERS, key=value pairs with
// commas between them, in place of those of the file.
func (c *configFile) header() (map[string]string, error) {
	text := os.Getenv("DOCKER_CUSTOM_HEADERS")
	if text == "" {
		return c.HTTPHeaders, nil
	}
	pairs, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return nil, fmt.Errorf("DOCKER_CUSTOM_HEADERS must be key=value pairs with commas between them: %w", err)
	}
	header := map[string]string{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		key = strings.TrimSpace(key)
		if !ok || key == "" {
			return nil, fmt.Errorf("DOCKER_CUSTOM_HEADERS has %q: must be key=value", pair)
		}
		if _, twice := header[key]; twice {
			return nil, fmt.Errorf("DOCKER_CUSTOM_HEADERS has the key %q twice", key)
		}
		header[key] = value
	}
	return header, nil
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
