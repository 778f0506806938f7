package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// sshDialer returns what opens connections to the engine of another host,
// ssh://[USER@]HOST[:PORT][/SOCKET]. Each is a run of ssh, whose standard input
// and output "tare system dial-stdio" joins with the engine over there, or
// docker's, where there is no tare.
func sshDialer(address string) (func(context.Context) (net.Conn, error), error) {
	args, err := sshArgs(address)
	if err != nil {
		return nil, err
	}
	return func(context.Context) (net.Conn, error) { return dialCommand("ssh", args) }, nil
}

func sshArgs(address string) ([]string, error) {
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" {
		return nil, fmt.Errorf("invalid ssh URL: %s", address)
	}
	args := []string{"-o", "ConnectTimeout=30", "-T"}
	if u.User != nil {
		if _, has := u.User.Password(); has {
			return nil, errors.New("plain-text password is not supported")
		}
		args = append(args, "-l", u.User.Username())
	}
	if p := u.Port(); p != "" {
		args = append(args, "-p", p)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("invalid ssh URL: %s: only a user, a host, a port and a socket are understood", address)
	}
	host := ""
	if socket := strings.TrimSuffix(u.Path, "/"); socket != "" {
		host = " --host " + shellQuote("unix://"+socket)
	}
	remote := "if command -v tare >/dev/null 2>&1; then exec tare" + host + " system dial-stdio; else exec docker" + host + " system dial-stdio; fi"
	// Behind "--" a host that begins with "-" is no option.
	return append(args, "--", u.Hostname(), remote), nil
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// commandConn is a connection to what a program has on its standard input and output.
type commandConn struct {
	in, out *os.File // our ends: in is read by the program
	cmd     *exec.Cmd
	stderr  bytes.Buffer
	ended   chan struct{} // closed when the program has ended, with err
	err     error
	close   sync.Once

	answered atomic.Bool // something was read
}

var _ net.Conn = (*commandConn)(nil)

func dialCommand(name string, args []string) (net.Conn, error) {
	theirIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer theirIn.Close()
	out, theirOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer theirOut.Close()
	c := &commandConn{in: in, out: out, cmd: exec.Command(name, args...), ended: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirIn, theirOut, &c.stderr
	ownSession(c.cmd) // Ctrl-C is for the container, not for the way to it
	if err := c.cmd.Start(); err != nil {
		return nil, errors.Join(err, in.Close(), out.Close())
	}
	go func() {
		c.err = c.cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// Read returns what the program wrote. If it failed, its own words are the
// error at the end.
func (c *commandConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if n > 0 {
		c.answered.Store(true)
	}
	if !errors.Is(err, io.EOF) {
		return n, err
	}
	<-c.ended
	if c.err != nil {
		return n, c.failure()
	}
	return n, io.EOF
}

// failure says why the program that has ended did so. Before a first answer it
// means that there is no connection.
func (c *commandConn) failure() error {
	err := fmt.Errorf("%s: %w: %s", c.cmd.Args[0], c.err, strings.TrimSpace(c.stderr.String()))
	if !c.answered.Load() {
		return &net.OpError{Op: "dial", Net: c.RemoteAddr().Network(), Err: err}
	}
	return err
}

// lastWords bounds the wait for the end of a program that reads no more.
const lastWords = 5 * time.Second

// Write gives the program something to read. If it failed meanwhile, its own
// words are the error.
func (c *commandConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	if err == nil || errors.Is(err, os.ErrClosed) || errors.Is(err, os.ErrDeadlineExceeded) {
		return n, err
	}
	select {
	case <-c.ended:
		if c.err != nil {
			return n, c.failure()
		}
	case <-time.After(lastWords):
	}
	return n, err
}

// CloseWrite says that no more input comes.
func (c *commandConn) CloseWrite() error { return c.in.Close() }

// Close ends the program.
func (c *commandConn) Close() error {
	c.close.Do(func() {
		c.in.Close()
		c.out.Close()
		c.cmd.Process.Kill()
	})
	return nil
}

func (c *commandConn) LocalAddr() net.Addr  { return commandAddr{} }
func (c *commandConn) RemoteAddr() net.Addr { return commandAddr{} }

func (c *commandConn) SetDeadline(t time.Time) error {
	return errors.Join(c.in.SetDeadline(t), c.out.SetDeadline(t))
}

func (c *commandConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *commandConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }

// commandAddr stands where other connections have an address.
type commandAddr struct{}

func (commandAddr) Network() string { return "command" }
func (commandAddr) String() string  { return "command" }
