package container

import (
	"errors"

	"github.com/tare-engine/tare/internal/keeper"
	"github.com/tare-engine/tare/internal/runtime"
	"github.com/tare-engine/tare/internal/runtime/external"
)

// ready is a process that is ready to be started: by a plan of ours, or by the
// command line of another runtime. What follows its start does not tell them
// apart.
type ready struct {
	plan    keeper.Start      // how; who and with which streams is added
	explain func(error) error // what clients read of the keeper's error
	close   func()            // gives back what was opened for it
}

// giveUp closes what was opened, if there is a start.
func (r *ready) giveUp() {
	if r != nil {
		r.close()
	}
}

// step lets a plan of ours explain the step that failed.
func step(explain func(*keeper.StepError) error) func(error) error {
	return func(err error) error {
		if e, ok := errors.AsType[*keeper.StepError](err); ok {
			return explain(e)
		}
		return err
	}
}

func readyStart(s *runtime.Start, err error) (*ready, error) {
	if err != nil {
		return nil, err
	}
	return &ready{
		plan:    keeper.Start{Flags: s.Flags, CgroupFD: s.CgroupFD, Plan: s.Image, Second: s.Second, FDs: s.FDs},
		explain: step(s.Explain), close: s.Close,
	}, nil
}

func readyExec(x *runtime.Exec, err error) (*ready, error) {
	if err != nil {
		return nil, err
	}
	return &ready{
		plan:    keeper.Start{CgroupFD: x.CgroupFD, Plan: x.First, Second: x.Second, FDs: x.FDs},
		explain: step(x.Explain), close: x.Close,
	}, nil
}

func readyExternal(s *external.Start, err error) (*ready, error) {
	if err != nil {
		return nil, err
	}
	return &ready{
		plan:    keeper.Start{External: true, CgroupFD: -1, Plan: s.Plan, Second: s.Second, FDs: s.FDs},
		explain: s.Explain, close: s.Close,
	}, nil
}
