package server

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/internal/errdefs"
)

// connKey is the key of a request's connection in its context.
type connKey struct{}

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// checkDoor keeps web pages out. A browser that was made to call us, by a form
// or by a name that suddenly means 127.0.0.1, shows it by its Origin or Host.
// No browser speaks over a unix socket, and clients put what they like there.
func (s *Server) checkDoor(r *http.Request) error {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok || addr.Network() == "unix" {
		return nil
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		return errdefs.New(errdefs.Forbidden, "requests of web pages are refused (Origin %q)", origin)
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if _, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil || s.names[strings.ToLower(host)] {
		return nil
	}
	return errdefs.New(errdefs.Forbidden, "not a name of this engine (Host %q)", r.Host)
}

// peerOf describes a client for the log: its process and user on a unix
// socket, its address elsewhere.
func peerOf(r *http.Request) string {
	c, ok := r.Context().Value(connKey{}).(*net.UnixConn)
	if !ok {
		return r.RemoteAddr
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return "gone"
	}
	var cred *syscall.Ucred
	if cerr := raw.Control(func(fd uintptr) {
		cred, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	}); cerr != nil || err != nil {
		return "gone"
	}
	return "pid " + strconv.Itoa(int(cred.Pid)) + " uid " + strconv.Itoa(int(cred.Uid)) + " gid " + strconv.Itoa(int(cred.Gid))
}
