package server

import (
	"context"
	"net/http"
	"strconv"

	"github.com/moby/moby/api/types/network"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

// networkBackend tells of networks.
type networkBackend interface {
	NetworkList(ctx context.Context, f api.Filters) ([]network.Summary, error)
	NetworkInspect(ctx context.Context, ref, scope string) (network.Inspect, error)
	NetworkCreate(ctx context.Context, r network.CreateRequest) (network.CreateResponse, error)
	NetworkRemove(ctx context.Context, ref string) error
	NetworkConnect(ctx context.Context, ref string, r network.ConnectRequest) error
	NetworkDisconnect(ctx context.Context, ref string, r network.DisconnectRequest) error
	NetworkExplain(ctx context.Context, o api.NetworkExplainOptions) (api.NetworkExplanation, error)
	NetworksPrune(ctx context.Context, f api.Filters) (network.PruneReport, error)
}

func (s *Server) listNetworks(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	list, err := s.backend.NetworkList(r.Context(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) inspectNetwork(w http.ResponseWriter, r *request) error {
	if text := r.text("verbose"); text != "" { // asks for a swarm's tasks and peers, of which local networks have none
		if _, err := strconv.ParseBool(text); err != nil {
			return errdefs.New(errdefs.InvalidArgument, "invalid value for verbose: %s: %w", text, err)
		}
	}
	n, err := s.backend.NetworkInspect(r.Context(), r.name, r.text("scope"))
	if err != nil {
		return err
	}
	if r.version.Before(52) {
		n.Status = nil
	}
	return r.json(http.StatusOK, n)
}

func (s *Server) createNetwork(_ http.ResponseWriter, r *request) error {
	var want network.CreateRequest
	if err := r.body(&want); err != nil {
		return err
	}
	made, err := s.backend.NetworkCreate(r.Context(), want)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, made)
}

func (s *Server) removeNetwork(_ http.ResponseWriter, r *request) error {
	if err := s.backend.NetworkRemove(r.Context(), r.name); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) connectNetwork(_ http.ResponseWriter, r *request) error {
	var want network.ConnectRequest
	if err := r.body(&want); err != nil {
		return err
	}
	return s.backend.NetworkConnect(r.Context(), r.name, want)
}

func (s *Server) disconnectNetwork(_ http.ResponseWriter, r *request) error {
	var want network.DisconnectRequest
	if err := r.body(&want); err != nil {
		return err
	}
	return s.backend.NetworkDisconnect(r.Context(), r.name, want)
}

func (s *Server) explainNetwork(_ http.ResponseWriter, r *request) error {
	x, err := s.backend.NetworkExplain(r.Context(), api.NetworkExplainOptions{From: r.text("from"), To: r.text("to"), Port: r.text("port"), IPv6: r.flag("ipv6")})
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, x)
}

func (s *Server) pruneNetworks(w http.ResponseWriter, r *request) error {
	f, err := r.filters()
	if err != nil {
		return err
	}
	report, err := s.backend.NetworksPrune(r.Context(), f)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, report)
}
