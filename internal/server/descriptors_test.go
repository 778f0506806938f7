package server

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// inChild runs the test again in a process of its own.
func inChild(t *testing.T, env string) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), env)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// eatDescriptors opens files until only one more can be opened.
func eatDescriptors(t *testing.T) (release func()) {
	t.Helper()
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: 64, Max: 64}); err != nil {
		t.Fatal(err)
	}
	var files []*os.File
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		files = append(files, f)
	}
	_ = files[len(files)-1].Close()
	files = files[:len(files)-1]
	return func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
}

// dialWithLast connects with the last descriptor there is.
func dialWithLast(path string) (net.Conn, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return nil, err
	}
	return fdConn{os.NewFile(uintptr(fd), "client")}, nil
}

// fdConn is a connection without the second descriptor that net.FileConn needs.
type fdConn struct{ *os.File }

func (fdConn) LocalAddr() net.Addr  { return nil }
func (fdConn) RemoteAddr() net.Addr { return nil }
