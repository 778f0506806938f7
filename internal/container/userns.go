package container

import (
	"context"
	"errors"
	"log/slog"
	"os"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/linux/netns"
	"github.com/tare-engine/tare/internal/network"
	"github.com/tare-engine/tare/internal/runtime"
)

// birth is the first moment of a container with a user namespace of its own, or
// with a control group that begins with its first process: its child waits at a
// gate until what only the host's root can do is done. Its control groups, and
// with a user namespace the maps of its ids, and its network: that namespace must
// be the child's, made with its user namespace, so that its root may change it.
//
// If we are killed meanwhile our ends of the gate close, and the child ends.
type birth struct {
	l       *launch
	start   *runtime.Start // the child's
	child   runtime.Gate
	out, in *os.File // ours
}

func newBirth(l *launch) (*birth, error) {
	out, childOut, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, out.Close(), childOut.Close())
	}
	return &birth{l: l, child: runtime.Gate{Out: childOut, In: childIn}, out: out, in: in}, nil
}

func (b *birth) waiting() runtime.Waiting {
	return runtime.Waiting{Gate: &b.child, SyncPoints: []runtime.SyncPoint{runtime.SyncBorn}}
}

// ready is readyStart; a birth takes note of the start.
func (b *birth) ready(s *runtime.Start, err error) (*ready, error) {
	if b != nil {
		b.start = s
	}
	return readyStart(s, err)
}

// close gives all ends back; it may be called again.
func (b *birth) close() {
	if b != nil {
		for _, f := range []*os.File{b.child.Out, b.child.In, b.out, b.in} {
			f.Close()
		}
	}
}

// attend calls start, which is to use st, and does the midwife's work
// meanwhile. Without a birth it only starts. If the work fails the child has
// ended, or never was.
func (b *birth) attend(st *keeper.Start, start func() (*keeper.Process, error)) (*keeper.Process, error) {
	if b == nil {
		return start()
	}
	pid, done := make(chan int, 1), make(chan error, 1)
	st.Born = func(p int) {
		select {
		case pid <- p:
		default: // told already
		}
	}
	stop := make(chan struct{})
	go func() {
		select {
		case p := <-pid:
			done <- b.help(p)
		case <-stop:
			done <- nil
		}
	}()
	p, err := start()
	if err != nil { // else the child has passed the gate, or the help has failed
		close(stop)
		b.close()
	}
	helped := <-done
	b.close()
	if err != nil || helped == nil {
		return p, err
	}
	b.l.started(p) // it has ended
	if err := b.l.abort(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		slog.Warn("end what was not born", "container", b.l.view.ID, "err", err)
	}
	return nil, helped
}

// help waits for the child at its gate, does what it needs and lets it go on;
// or closes the gate, which ends it.
func (b *birth) help(pid int) error {
	err := runtime.AwaitSync(b.out)
	if err == nil {
		err = b.prepare(pid)
	}
	if err == nil {
		err = runtime.Pass(b.in)
	}
	if err != nil {
		b.in.Close()
	}
	return err
}

func (b *birth) prepare(pid int) error {
	if err := b.l.process.cgroup.Enter(pid); err != nil {
		return err
	}
	if b.l.view.IDs != nil && b.l.net.shared == nil {
		if err := b.l.enterNetworkOf(pid); err != nil {
			return err
		}
	}
	return b.start.Born(pid)
}

// enterNetworkOf puts the container's link into its child's network namespace.
func (l *launch) enterNetworkOf(pid int) error {
	ns, err := netns.OfProcess(pid)
	if err != nil {
		return err
	}
	defer ns.Close()
	return l.enterNetwork(ns)
}

// enterNetwork puts the container's link, if it has one, into a network namespace.
func (l *launch) enterNetwork(ns *os.File) error {
	if len(l.net.list) == 0 {
		return network.Isolate(ns)
	}
	records, err := l.networks.Enter(context.Background(), l.view.ID, ns)
	if err != nil {
		return err
	}
	l.net.view.Records = records // in no view yet
	return l.networks.ServeNames(l.view.ID, addresses(l.view), ns)
}
