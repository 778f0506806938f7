package container

import (
	"slices"
	"testing"
)

func TestLinksForgetContainers(t *testing.T) {
	l := newLinks()
	l.add("db", "web")
	l.add("db", "web")
	l.add("db", "job")
	l.add("web", "job")
	if got := l.of("db"); !slices.Equal(got, []string{"web", "job"}) {
		t.Error(got)
	}
	l.drop("web")
	if got := l.of("db"); !slices.Equal(got, []string{"job"}) || len(l.of("web")) > 0 {
		t.Error(got, l.by)
	}
}
