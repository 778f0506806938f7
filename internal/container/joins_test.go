package container

import (
	"errors"
	"os"
	"testing"

	"github.com/tare-engine/tare/internal/errdefs"
	kernel "github.com/tare-engine/tare/internal/linux/process"
)

// A process that has the pid of a donor's is not the donor's: what was opened by
// that pid is nobody's to join.
func TestDonorWhosePidIsAnothers(t *testing.T) {
	ticks, err := kernel.StartTicks(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("cause")
	theirs := &View{Record: &Record{ID: "donor"}, Pid: os.Getpid(), Ticks: ticks}
	l := &launch{donors: []donor{{"PID", theirs}}}
	if err := l.there(nil); err != nil {
		t.Error(err)
	}
	if err := l.there(cause); err != cause {
		t.Error(err)
	}
	reused := *theirs
	reused.Ticks--
	l.donors = append(l.donors, donor{"network", &reused})
	for _, err := range []error{nil, cause} {
		err = l.there(err)
		if !errdefs.Is(err, errdefs.Conflict) || err.Error() != "cannot join network namespace of a non running container: donor" {
			t.Error(err)
		}
	}
}
