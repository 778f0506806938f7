package tally

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestACountIsUsedAgainForAsLongAsItIsWorth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Tally[int]
		n, took := 0, time.Second
		get := func() (int, time.Duration) {
			v, at, err := all.Get(t.Context(), "k", func() (int, error) {
				time.Sleep(took)
				n++
				return n, nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return v, time.Since(at)
		}
		if v, age := get(); v != 1 || age != time.Second {
			t.Errorf("%d of %v ago", v, age)
		}
		time.Sleep(19 * time.Second)
		if v, age := get(); v != 1 || age != 20*time.Second {
			t.Errorf("%d of %v ago", v, age)
		}
		time.Sleep(time.Second)
		if v, _ := get(); v != 2 {
			t.Errorf("%d after 20 times the time that it took", v)
		}
		all.Forget("k")
		took = time.Hour
		if v, _ := get(); v != 3 {
			t.Errorf("%d after it was forgotten", v)
		}
		time.Sleep(10 * time.Minute)
		if v, _ := get(); v != 4 {
			t.Errorf("%d after ten minutes", v)
		}
	})
}

func TestOneCountForAllWhoAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var all Tally[int]
		n := 0
		count := func() (int, error) { time.Sleep(time.Second); n++; return n, nil }
		for range 10 {
			go all.Get(t.Context(), "k", count)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, _, err := all.Get(ctx, "k", count); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n != 1 {
			t.Errorf("counted %d times", n)
		}
	})
}

func TestErrorsAreNotKept(t *testing.T) {
	var all Tally[int]
	broken := errors.New("broken")
	if _, _, err := all.Get(t.Context(), "k", func() (int, error) { return 0, broken }); err != broken {
		t.Error(err)
	}
	if v, _, err := all.Get(t.Context(), "k", func() (int, error) { return 7, nil }); v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}
