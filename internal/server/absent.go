package server

import (
	"net/http"

	"github.com/moby/moby/api/types/plugin"

	"github.com/tare-engine/tare/internal/errdefs"
)

// Clients ask these of every engine ("docker info", "docker system prune",
// compose, CI runners), and understand what an engine in no swarm, without
// plugins and without a build cache says.

const (
	noRegistryPlugins = "plugins from registries are not offered: start the plugin as a program that listens at /run/docker/plugins/NAME.sock, and name it as a driver (volume create -d NAME, tared --authorization-plugin NAME)"
	noExperiments     = "This experimental feature is disabled by default. Start the Docker daemon in experimental mode in order to enable it."
)

func (s *Server) noManager(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.Unavailable, `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`)
}

func (s *Server) notInSwarm(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.Unavailable, "This node is not part of a swarm")
}

func (s *Server) noSwarmHere(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.NotImplemented, "Swarm mode is not offered: Tare runs the containers of one machine; use Kubernetes to spread them over several")
}

func (s *Server) listPlugins(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	if err := f.Validate([]string{"capability", "enabled"}); err != nil {
		return err
	}
	return r.json(http.StatusOK, plugin.ListResponse{})
}

func (s *Server) noPluginsHere(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.NotImplemented, noRegistryPlugins)
}

func (s *Server) noCheckpoints(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.NotImplemented, noExperiments)
}

func (s *Server) noPlugin(w http.ResponseWriter, r *request) error {
	return errdefs.New(errdefs.NotFound, "plugin %q not found", r.name)
}
