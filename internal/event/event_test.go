package event

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moby/moby/api/types/events"
)

func publish(l *Log, n int) {
	for i := range n {
		l.Publish(events.ContainerEventType, events.ActionStart, fmt.Sprint(i), nil)
	}
}

func TestFollowGivesOldThenNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		publish(l, 2)
		time.Sleep(time.Second)
		from := time.Now()
		publish(l, 2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []string
		done := make(chan error)
		go func() {
			done <- l.Follow(ctx, from, time.Time{}, nil, func(m events.Message) error {
				got = append(got, m.Actor.ID)
				return nil
			})
		}()
		synctest.Wait()
		l.Publish(events.ContainerEventType, events.ActionDie, "new", nil)
		synctest.Wait()
		cancel()
		if err := <-done; err != nil || fmt.Sprint(got) != "[0 1 new]" {
			t.Fatal(got, err)
		}
	})
}

func TestUntilEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLog()
		n := 0
		go func() {
			time.Sleep(2 * time.Second)
			publish(l, 1)
		}()
		err := l.Follow(t.Context(), time.Now(), time.Now().Add(time.Second), nil, func(events.Message) error { n++; return nil })
		if err != nil || n != 0 {
			t.Fatal(n, err)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestSlowListenerIsCut(t *testing.T) {
	l := NewLog()
	publish(l, 1)
	first := true
	err := l.Follow(t.Context(), time.Now().Add(-time.Hour), time.Time{}, nil, func(events.Message) error {
		if first {
			publish(l, size+100)
		}
		first = false
		return nil
	})
	if !errors.Is(err, ErrSlow) {
		t.Fatal(err)
	}
}

func TestSinceKeepsNoMoreThanTheRing(t *testing.T) {
	l := NewLog()
	publish(l, size*2)
	n := 0
	err := l.Follow(t.Context(), time.Unix(1, 0), time.Now(), nil, func(events.Message) error { n++; return nil })
	if err != nil || n != size {
		t.Fatal(n, err)
	}
}
