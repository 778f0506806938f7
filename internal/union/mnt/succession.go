package mnt

import (
	"fmt"
	"log"
	"os"
	"sync"

	"github.com/tare-engine/tare/internal/linux/spawn"
	"github.com/tare-engine/tare/internal/union/ledger"
)

// ledgerVar is set in the environment of a server that takes over: the descriptor of
// the ledger, and the token of the heir that had it executed.
const ledgerVar = "TARE_UNION_LEDGER"

// succession sees to it that there is an heir as long as this process serves.
//
// An heir has servers executed until one has made an heir of its own. Then there are
// two for a moment, and if the server is killed in it, two servers after it. Whose
// heir was chosen goes on; the other one ends, and its heir with it.
type succession struct {
	ledger *ledger.Ledger
	argv   []string

	mu    sync.Mutex
	heir  *spawn.Heir
	ended bool
	done  chan struct{}
}

// newSuccession makes the first.
func newSuccession(args []string, l *ledger.Ledger) (*succession, error) {
	s := &succession{ledger: l, argv: append([]string{"tare-union", ServeVerb}, args...), done: make(chan struct{})}
	if err := s.choose(); err != nil {
		return nil, err
	}
	go s.watch()
	return s, nil
}

// choose makes an heir.
func (s *succession) choose() (err error) {
	l := s.ledger
	token := l.NewToken()
	s.heir, err = spawn.NewHeir(spawn.Will{
		Program: fdProgram,
		Argv:    s.argv,
		Env:     []string{fmt.Sprintf("%s=%d,%d", ledgerVar, l.FD(), token)},
		Note:    l.FD(),
		NoteAt:  l.HeirAt(token),
	})
	if err != nil {
		return fmt.Errorf("the server's heir: %w", err)
	}
	l.Choose(token)
	return nil
}

// watch makes another heir when somebody has ended the one that there is.
func (s *succession) watch() {
	defer close(s.done)
	for {
		err := s.heir.Wait()
		s.mu.Lock()
		s.heir.Free()
		if s.ended {
			s.mu.Unlock()
			return
		}
		if err == nil {
			err = s.choose()
		}
		s.mu.Unlock()
		if err != nil {
			log.Printf("%v: nobody will take over", err)
			return
		}
	}
}

// leave ends the heir and this process, whatever is under way: as a kill, after which
// nobody takes over.
func (s *succession) leave(id string) {
	s.end()
	if err := unlist(id); err != nil {
		log.Print(err)
	}
	os.Exit(0)
}

// end ends the heir: the file system is gone.
func (s *succession) end() {
	s.mu.Lock()
	s.ended = true
	_ = s.heir.Kill() // it may have ended
	s.mu.Unlock()
	<-s.done
}
