package forward

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tare-engine/tare/internal/logfile"
	"github.com/tare-engine/tare/internal/logs/remote"
)

// rig is a log, and where it goes.
type rig struct {
	t   *testing.T
	dir string
	log Log
	w   *logfile.Writer
	n   int // lines written
}

func newRig(t *testing.T, driver string, options map[string]string) *rig {
	dir := t.TempDir()
	logs := filepath.Join(dir, "log")
	if err := os.Mkdir(logs, 0o700); err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, dir: dir}
	r.log = Log{ID: strings.Repeat("c", 64), Dir: logs, Name: "local.log", Position: filepath.Join(dir, "log-sent"), Driver: driver, Options: options,
		Subject: remote.Subject{ID: strings.Repeat("c", 64), Name: "web", Hostname: "host"}}
	r.w = logfile.NewWriter(func() (*os.Root, error) { return os.OpenRoot(logs) }, "local.log", logfile.Options{MaxSize: 20 << 10, MaxFiles: 2, Format: logfile.Text})
	t.Cleanup(func() { r.w.Suspend() })
	return r
}

// write writes lines "line N;".
func (r *rig) write(n int) {
	r.t.Helper()
	for range n {
		r.n++
		if err := r.w.Write(logfile.Stdout, fmt.Appendf(nil, "line %d;\n", r.n), time.Now()); err != nil {
			r.t.Fatal(err)
		}
	}
}

// service is one engine's; it ends with the test.
func (r *rig) service() *Service {
	s := New()
	r.t.Cleanup(s.Close)
	s.Begin(r.log)
	return s
}

// inbox is what a receiver has got, in order.
type inbox struct {
	mu    sync.Mutex
	lines []string
	more  chan struct{}
}

func newInbox() *inbox { return &inbox{more: make(chan struct{}, 1)} }

func (b *inbox) add(line string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	select {
	case b.more <- struct{}{}:
	default:
	}
}

// await waits until line n has come, and checks that all before it have, in order, with
// no more than so many twice.
func (b *inbox) await(t *testing.T, n, twice int) {
	t.Helper()
	late := time.After(60 * time.Second)
	for {
		b.mu.Lock()
		last := len(b.lines) > 0 && strings.Contains(b.lines[len(b.lines)-1], fmt.Sprintf("line %d;", n))
		b.mu.Unlock()
		if last {
			break
		}
		select {
		case <-b.more:
		case <-late:
			b.mu.Lock()
			defer b.mu.Unlock()
			t.Fatalf("line %d has not come; %d have, the last is %q", n, len(b.lines), b.lines[max(len(b.lines)-1, 0):])
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	next, again := 1, 0
	for _, l := range b.lines {
		var got int
		if _, err := fmt.Sscanf(l[strings.Index(l, "line "):], "line %d;", &got); err != nil || got > next {
			t.Fatalf("after line %d comes %q", next-1, l)
		}
		if got < next {
			again++
		}
		next = got + 1
	}
	if again > twice {
		t.Errorf("it begins again %d times", again)
	}
}

// receiver takes lines of connections.
type receiver struct {
	*inbox
	l     net.Listener
	mu    sync.Mutex
	conns []net.Conn
	all   sync.WaitGroup
}

func listen(t *testing.T, network, address string, config *tls.Config) *receiver {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if config != nil {
		l = tls.NewListener(l, config)
	}
	r := &receiver{inbox: newInbox(), l: l}
	r.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.conns = append(r.conns, c)
			r.mu.Unlock()
			r.all.Go(func() { r.read(c) })
		}
	})
	t.Cleanup(r.end)
	return r
}

func (r *receiver) read(c net.Conn) {
	defer c.Close()
	in := bufio.NewScanner(c)
	for in.Scan() {
		r.add(in.Text())
	}
}

// cut ends all connections.
func (r *receiver) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func (r *receiver) end() {
	r.l.Close()
	r.cut()
	r.all.Wait()
}

// eachStream does a test by TCP, TLS and a unix socket.
func eachStream(t *testing.T, f func(t *testing.T, r *receiver, o map[string]string)) {
	t.Run("tcp", func(t *testing.T) {
		r := listen(t, "tcp", "127.0.0.1:0", nil)
		f(t, r, map[string]string{"syslog-address": "tcp://" + r.l.Addr().String()})
	})
	t.Run("tls", func(t *testing.T) {
		config, ca := certificate(t)
		r := listen(t, "tcp", "127.0.0.1:0", config)
		f(t, r, map[string]string{"syslog-address": "tcp+tls://" + r.l.Addr().String(), "syslog-tls-ca-cert": ca})
	})
	t.Run("unix", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "s")
		r := listen(t, "unix", path, nil)
		f(t, r, map[string]string{"syslog-address": "unix://" + path})
	})
}

func certificate(t *testing.T) (*tls.Config, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, ca
}

func TestLinesArriveInOrderOverConnectionsThatAreCut(t *testing.T) {
	eachStream(t, func(t *testing.T, r *receiver, o map[string]string) {
		rig := newRig(t, "syslog", o)
		rig.service()
		rig.write(100)
		r.await(t, 100, 0)
		for i := range 3 {
			r.cut()
			rig.write(300)
			r.await(t, 400+300*i, i+1)
		}
	})
}

func TestTheNextEngineGoesOn(t *testing.T) {
	eachStream(t, func(t *testing.T, r *receiver, o map[string]string) {
		rig := newRig(t, "syslog", o)
		s := rig.service()
		rig.write(50)
		r.await(t, 50, 0)
		s.Finish(rig.log.ID, time.Minute)
		s.Close()
		rig.write(50) // nobody sends them
		s = rig.service()
		r.await(t, 100, 0) // none twice: what had arrived was noted
		// One that is killed has sent lines that it has not noted: the note of before is back.
		old, err := os.ReadFile(rig.log.Position)
		if err != nil {
			t.Fatal(err)
		}
		rig.write(50)
		r.await(t, 150, 0)
		s.Finish(rig.log.ID, time.Minute)
		s.Close()
		if err := os.WriteFile(rig.log.Position, old, 0o600); err != nil {
			t.Fatal(err)
		}
		rig.write(1)
		rig.service()
		r.await(t, 151, 1)
	})
}

func TestLinesWaitForAReceiverOverRotation(t *testing.T) {
	r := listen(t, "tcp", "127.0.0.1:0", nil)
	address := r.l.Addr().String()
	r.end()
	rig := newRig(t, "syslog", map[string]string{"syslog-address": "tcp://" + address})
	s := rig.service()
	rig.write(5000) // 200 KB and more, of which the log keeps 40
	s.Finish(rig.log.ID, time.Minute)
	r = listen(t, "tcp", address, nil)
	r.await(t, 5000, 0)
}

func TestARemovedContainersLinesAreHeld(t *testing.T) {
	r := listen(t, "tcp", "127.0.0.1:0", nil)
	address := r.l.Addr().String()
	r.end()
	rig := newRig(t, "syslog", map[string]string{"syslog-address": "tcp://" + address})
	s := rig.service()
	rig.write(100)
	s.Finish(rig.log.ID, time.Minute) // ends as nobody receives
	s.Depart(rig.log.ID)
	if err := os.RemoveAll(rig.dir); err != nil {
		t.Fatal(err)
	}
	r = listen(t, "tcp", address, nil)
	r.await(t, 100, 0)
	if _, err := os.Stat(rig.dir); !os.IsNotExist(err) {
		t.Errorf("the directory is there again: %v", err)
	}
}

func TestAReceiverThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // connections wait, nobody accepts them
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	rig := newRig(t, "syslog", map[string]string{"syslog-address": "tcp://" + l.Addr().String()})
	s := rig.service()
	rig.write(20000)
	closed := make(chan struct{})
	go func() { s.Close(); close(closed) }()
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Fatal("the engine waits for the receiver")
	}
}

func TestLinesByUDP(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newInbox()
	var all sync.WaitGroup
	all.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, _, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			b.add(string(buf[:n]))
		}
	})
	defer func() { c.Close(); all.Wait() }()
	rig := newRig(t, "gelf", map[string]string{"gelf-address": "udp://" + c.LocalAddr().String(), "gelf-compression-type": "none"})
	rig.service()
	rig.write(100)
	b.await(t, 100, 0)
}

func TestRefusedDatagramsAreSentAgain(t *testing.T) {
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := c.LocalAddr().String()
	c.Close()
	rig := newRig(t, "gelf", map[string]string{"gelf-address": "udp://" + address, "gelf-compression-type": "none"})
	s := rig.service()
	rig.write(20)
	s.Finish(rig.log.ID, time.Minute) // ends as they are refused
	if c, err = net.ListenPacket("udp", address); err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 65536)
	for i := 1; i <= 20; i++ {
		n, _, err := c.ReadFrom(buf)
		if err != nil || !strings.Contains(string(buf[:n]), fmt.Sprintf(`"line %d;"`, i)) {
			t.Fatalf("datagram %d: %q, %v", i, buf[:n], err)
		}
	}
}

func TestFluentdAcknowledges(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := newInbox()
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewReader(c)
			for {
				m, err := in.ReadString('=') // the chunk's base64 ends in two
				if err != nil {
					break
				}
				in.Discard(1)
				chunk := m[len(m)-23:] + "="
				b.add(m)
				if len(b.lines)%7 == 3 { // nobody else adds
					break // not acknowledged: it comes again
				}
				fmt.Fprintf(c, "\x81\xa3ack\xb8%s", chunk)
			}
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	rig := newRig(t, "fluentd", map[string]string{"fluentd-address": l.Addr().String(), "fluentd-request-ack": "true", "fluentd-retry-wait": "10ms"})
	rig.service()
	rig.write(30)
	b.await(t, 30, 10)
}

func TestAllowedRetriesEnd(t *testing.T) {
	r := listen(t, "tcp", "127.0.0.1:0", nil)
	address := r.l.Addr().String()
	r.end()
	rig := newRig(t, "fluentd", map[string]string{"fluentd-address": address, "fluentd-max-retries": "2", "fluentd-retry-wait": "1ms"})
	s := rig.service()
	rig.write(10)
	for p := (position{}); p.Offset == 0; p = readPosition(rig.log.Position) {
		time.Sleep(time.Millisecond)
	}
	s.Finish(rig.log.ID, time.Minute)
}

func TestPiecesOfALongLine(t *testing.T) {
	var p position
	var got []string
	for i, l := range []string{"a", "b", "c\n", "d\n"} {
		e := logfile.Entry{Line: []byte(l), Stream: logfile.Stdout, End: logfile.Position{Generation: 1, Offset: int64(i)}}
		line, partial := p.advance(&e, "id")
		if partial == nil {
			got = append(got, string(line))
			continue
		}
		got = append(got, fmt.Sprintf("%s%d%v%d", line, partial.Ordinal, partial.Last, len(partial.ID)))
	}
	if s := strings.Join(got, " "); s != "a1false64 b2false64 c3true64 d" {
		t.Error(s)
	}
}

func TestADamagedPositionIsTheBeginning(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	want := position{Generation: 3, Offset: 1 << 60, Pieces: [2]pieces{{1, 2, 3}, {1 << 60, 1 << 60, 1 << 30}}}
	if err := want.write(path); err != nil {
		t.Fatal(err)
	}
	if got := readPosition(path); got != want {
		t.Errorf("%+v", got)
	}
	if err := os.Truncate(path, 30); err != nil {
		t.Fatal(err)
	}
	if got := readPosition(path); got != (position{}) {
		t.Errorf("%+v", got)
	}
}
