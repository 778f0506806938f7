package event

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/moby/moby/api/types/events"
)

// past returns the ids of all messages that a log has.
func past(t *testing.T, l *Log) (ids []string) {
	t.Helper()
	err := l.Follow(t.Context(), time.Unix(1, 0), time.Now(), nil, func(m events.Message) error {
		ids = append(ids, m.Actor.ID)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids
}

func TestMessagesOutliveTheLog(t *testing.T) {
	dir := t.TempDir()
	first := Open(dir)
	attrs := map[string]string{"name": "a\nb", "é": "\u2028"}
	first.Publish(events.ContainerEventType, events.ActionStart, "one", attrs)
	publish(first, 2)
	// The first is killed: nothing is closed.
	second := Open(dir)
	second.Publish(events.ContainerEventType, events.ActionDie, "two", nil)
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	third := Open(dir)
	if got := fmt.Sprint(past(t, third)); got != "[one 0 1 two]" {
		t.Errorf("messages %s", got)
	}
	if m := third.ring[0]; m.Action != events.ActionStart || m.Actor.Attributes["name"] != "a\nb" || m.Scope != "local" || m.TimeNano != first.ring[0].TimeNano {
		t.Errorf("the first message is %+v", m)
	}
}

func TestTornMessageIsLeftOut(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir)
	publish(l, 2)
	path := filepath.Join(dir, liveName)
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(b) - 2; cut > len(b)/2+1; cut -= 20 {
		if err := os.WriteFile(path, b[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		l := Open(dir)
		l.Publish(events.ContainerEventType, events.ActionDie, "new", nil)
		if got := fmt.Sprint(past(t, Open(dir))); got != "[0 new]" {
			t.Errorf("cut at %d: messages %s", cut, got)
		}
	}
}

func TestFilesHaveAnEnd(t *testing.T) {
	dir := t.TempDir()
	l := Open(dir)
	publish(l, 2*size+10)
	l = Open(dir)
	publish(l, size)
	var total int64
	for _, name := range []string{liveName, pastName} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		total += st.Size()
	}
	if total > 2*size*200 {
		t.Errorf("the files have %d bytes", total)
	}
	if got := past(t, Open(dir)); len(got) != size || got[len(got)-1] != fmt.Sprint(size-1) {
		t.Errorf("%d messages", len(got))
	}
}

func TestUnwritableDirectoryHurtsNobody(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	l := Open(dir)
	publish(l, 1)
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	publish(l, 1)
	if got := past(t, l); len(got) != 2 {
		t.Errorf("messages %q", got)
	}
	if got := past(t, Open(dir)); len(got) != 1 {
		t.Errorf("messages of the file %q", got)
	}
}
