package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// logOptions are the settings of containers' logs.
func (c *Config) logOptions() []option {
	return []option{
		{"log-driver", "", "log-driver", "where the output of containers that name no `driver` is kept: json-file, local or none", textValue{&c.LogDriver, nil}},
		{"log-opt", "", "log-opts", "`NAME=VALUE` for containers with the default log driver that do not give the option; several may be given", objectValue{&c.LogOpts}},
	}
}

// logConfig is the log of containers that say nothing of it.
func (c *Config) logConfig() container.LogConfig {
	return container.LogConfig{Type: c.LogDriver, Config: c.LogOpts}
}

// objectType is the type of NAME=VALUE, which is an object in the configuration file.
const objectType = "object"

// objectValue gathers NAME=VALUE, of which each name may be given once.
type objectValue struct{ all *map[string]string }

func (v objectValue) Set(s string) error {
	name, value, ok := strings.Cut(s, "=")
	if !ok || name == "" {
		return errors.New("want NAME=VALUE")
	}
	if _, twice := (*v.all)[name]; twice {
		return fmt.Errorf("%s is given twice", name)
	}
	if *v.all == nil {
		*v.all = map[string]string{}
	}
	(*v.all)[name] = value
	return nil
}

func (v objectValue) String() string {
	if v.all == nil {
		return ""
	}
	return strings.Join(sortedPairs(*v.all), " ")
}

func (v objectValue) Type() string { return objectType }

// objectWords turns the object of a key into what Set takes.
func objectWords(raw json.RawMessage) ([]string, error) {
	var all map[string]string
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, fmt.Errorf(`want an object of strings such as {"max-size": "10m"}, not %s`, raw)
	}
	return sortedPairs(all), nil
}

func sortedPairs(all map[string]string) []string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		words = append(words, name+"="+all[name])
	}
	return words
}
