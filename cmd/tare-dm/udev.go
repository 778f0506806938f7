package main

import (
	"bufio"
	"strings"
	"time"

	"github.com/tare-engine/tare/internal/linux/dm"
)

// cookiePrefix is what the keys of cookies begin with.
const cookiePrefix = 0x0d4d

func udevCreateCookieVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	if !dm.UdevRuns() { // nobody would complete it
		return a.dm() != nil
	}
	k, err := dm.NewCookie()
	if err != nil {
		a.errorf("%s", err)
		return false
	}
	a.printf("%s\n", k)
	return true
}

func udevReleaseCookieVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	k := a.cookie
	if len(args) > 0 {
		var err error
		if k, err = parseCookie(args[0]); err != nil {
			a.errorf("%s", err)
			return false
		}
	}
	if k == 0 {
		a.errorf("No udev transaction cookie given.")
		return false
	}
	if !dm.UdevRuns() {
		return true
	}
	if err := k.Wait(); err != nil {
		a.errorf("%s", err)
		return false
	}
	return true
}

// udevFlags are the names of the flags in an event's cookie; the upper eight are the
// subsystem's.
var udevFlags = []string{"DISABLE_DM_RULES", "DISABLE_SUBSYSTEM_RULES", "DISABLE_DISK_RULES", "DISABLE_OTHER_RULES",
	"LOW_PRIORITY", "DISABLE_LIBRARY_FALLBACK", "PRIMARY_SOURCE"}

func udevFlagsVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	k, err := parseCookie(args[0])
	if err != nil {
		a.errorf("%s", err)
		return false
	}
	for i := range 16 {
		switch set := k>>(16+i)&1 != 0; {
		case !set:
		case i < len(udevFlags):
			a.printf("DM_UDEV_%s_FLAG='1'\n", udevFlags[i])
		case i < 8:
			a.printf("DM_UDEV_FLAG%d='1'\n", i)
		default:
			a.printf("DM_SUBSYSTEM_UDEV_FLAG%d='1'\n", i-8)
		}
	}
	return true
}

func udevCompleteVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	k, err := parseCookie(args[0])
	if err != nil {
		a.errorf("%s", err)
		return false
	}
	a.printf("DM_COOKIE_COMPLETED=0x%-10x\n", uint32(k))
	if k = k.FromEvent(); k == 0 || !dm.UdevRuns() {
		return true
	}
	if err := k.Complete(); err != nil {
		a.errorf("%s", err)
		return false
	}
	return true
}

func udevCompleteAllVerb(a *app, args []string, _ *dm.Listed, _ bool) bool {
	age := 0
	if len(args) > 0 {
		if args[0] == "" || args[0][0] < '0' || args[0][0] > '9' {
			a.errorf("Failed to read age_in_minutes parameter.")
			return false
		}
		age = number(args[0])
	}
	if !a.yes {
		older := ""
		if age > 0 {
			older = "older than " + strings.TrimSpace(args[0]) + " minutes "
		}
		a.errorf("WARNING: This operation will destroy all semaphores %swith keys that have a prefix %d (0x%x).", older, cookiePrefix, cookiePrefix)
		if !a.confirmed() {
			a.printf("Semaphores with keys prefixed by %d (0x%x) NOT destroyed.\n", cookiePrefix, cookiePrefix)
			return true
		}
	}
	all, err := dm.Cookies()
	if err != nil {
		a.errorf("%s", err)
		return false
	}
	done, skipped := 0, 0
	for _, s := range all {
		since := time.Now().Add(-time.Duration(age) * time.Minute)
		if s.Changed.After(since) || s.LastOp.After(since) {
			skipped++
			continue
		}
		if err := s.Cookie.Destroy(); err != nil {
			a.errorf("%s", err)
			continue
		}
		done++
	}
	a.printf("%d semaphores with keys prefixed by %d (0x%x) destroyed. %d skipped.\n", done, cookiePrefix, cookiePrefix, skipped)
	return true
}

// confirmed asks until the answer begins with y or n.
func (a *app) confirmed() bool {
	in := bufio.NewReader(a.in)
	for {
		a.printf("Do you really want to continue? [y/n]: ")
		a.out.Flush()
		line, err := in.ReadString('\n')
		switch answer := strings.ToLower(strings.TrimSpace(line)); {
		case strings.HasPrefix(answer, "y"):
			return true
		case strings.HasPrefix(answer, "n") || err != nil:
			return false
		}
	}
}

func udevCookiesVerb(a *app, _ []string, _ *dm.Listed, _ bool) bool {
	all, err := dm.Cookies()
	if err != nil {
		a.errorf("%s", err)
		return false
	}
	a.printf("Cookie       Semid      Value      Last semop time           Last change time\n")
	for _, s := range all {
		a.printf("0x%-10x %-10d %-10d %s  %s\n", uint32(s.Cookie), s.ID, s.Value, s.LastOp.Format(time.ANSIC), s.Changed.Format(time.ANSIC))
	}
	return true
}
