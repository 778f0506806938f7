package reaper

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// book lets the returned list hear of a pid's end.
func book(r *Reaper, pid int) *[]int {
	var got []int
	r.Book(pid, func(e End) { got = append(got, e.Status.ExitStatus()) })
	return &got
}

func ended(status int) End { return End{Status: syscall.WaitStatus(status << 8)} }

func TestWhoHears(t *testing.T) {
	r := New()
	got := book(r, 7)
	r.over(8, ended(1))
	r.over(7, ended(2))
	r.over(7, ended(3)) // the number has become another's
	if !slices.Equal(*got, []int{2}) {
		t.Errorf("heard %v", *got)
	}
}

func TestEndBeforeBookingIsKeptWhileCloning(t *testing.T) {
	r := New()
	one, other := r.Cloning(), r.Cloning()
	r.over(7, ended(2))
	one()
	one() // of no effect: the other is under way
	if got := book(r, 7); !slices.Equal(*got, []int{2}) {
		t.Errorf("heard %v", *got)
	}
	if got := book(r, 7); len(*got) > 0 {
		t.Errorf("heard of one end twice: %v", *got)
	}
	r.Unbook(7)
	r.over(7, ended(3))
	other()
	if got := book(r, 7); len(*got) > 0 {
		t.Errorf("the end of an earlier process of that number was kept: %v", *got)
	}
	r.Unbook(7)
	r.over(7, ended(4))
	if got := book(r, 7); len(*got) > 0 || len(r.early) > 0 {
		t.Errorf("an end was kept for nobody: %v", *got)
	}
}

func TestOthersHear(t *testing.T) {
	r := New()
	first := book(r, 7)
	var second []int
	hear := func(e End) { second = append(second, e.Status.ExitStatus()) }
	if !r.Rebook(7, hear) {
		t.Error("not booked again")
	}
	r.over(7, ended(2))
	if len(*first) > 0 || !slices.Equal(second, []int{2}) {
		t.Errorf("heard %v and %v", *first, second)
	}
	if r.Rebook(7, hear) {
		t.Error("booked after the end")
	}
	book(r, 8)
	r.Unbook(8)
	if r.Rebook(8, hear) {
		t.Error("booked what is not ours")
	}
}

func TestHandOver(t *testing.T) {
	r := New()
	for _, before := range []bool{true, false} {
		heard := make(chan End, 1)
		r.Book(7, func(e End) { heard <- e })
		if before {
			r.over(7, ended(2))
		}
		var got []int
		r.HandOver(7, heard, func(e End) { got = append(got, e.Status.ExitStatus()) })
		if !before {
			r.over(7, ended(2))
		}
		if !slices.Equal(got, []int{2}) || len(heard) > 0 {
			t.Errorf("ended before: %v, heard %v, %d left", before, got, len(heard))
		}
	}
}

// child starts a process that ends with that status.
func child(t *testing.T, status int) int {
	t.Helper()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", fmt.Sprint("exit ", status)}, &syscall.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// zombie waits until a child has ended and is not reaped.
func zombie(t *testing.T, pid int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatalf("%d is gone: %v", pid, err)
		}
		if strings.Contains(string(b), ") Z ") {
			return
		}
	}
	t.Fatalf("%d does not end", pid)
}

// TestRun is the only test here with processes: Run takes whatever ends.
func TestRun(t *testing.T) {
	r := New()
	r.Hold(true)
	go r.Run()
	var pids []int
	for i := range 3 {
		pids = append(pids, child(t, 10+i))
	}
	for range 2 { // seen by Run, and left alone
		for _, p := range pids {
			zombie(t, p)
		}
	}
	heard := make(chan string, 64)
	listen := func(pid, want int) {
		r.Book(pid, func(e End) { heard <- fmt.Sprint(pid, e.Status.ExitStatus() == want && !e.At.IsZero()) })
	}
	for i, p := range pids {
		listen(p, 10+i)
	}
	r.Hold(false)
	for i := range 40 { // now as starts do it, with ends that come first
		booked := r.Cloning()
		pid := child(t, i)
		pids = append(pids, pid)
		listen(pid, i)
		booked()
	}
	for range pids {
		select {
		case s := <-heard:
			if i := slices.IndexFunc(pids, func(p int) bool { return s == fmt.Sprint(p, true) }); i < 0 {
				t.Errorf("heard %s", s)
			}
		case <-time.After(20 * time.Second):
			t.Fatal("an end was not told of")
		}
	}
	for _, p := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", p)); err == nil {
			if _, err := syscall.Wait4(p, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
				t.Errorf("%d is not reaped", p)
			}
		}
	}
}
