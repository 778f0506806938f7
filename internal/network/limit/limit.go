// Package limit makes the links of containers slow and lossy.
//
// All of it is at the host's end of an endpoint's pair, where the container cannot reach
// it, whatever rights it has in its own namespace:
//
//	what comes to the container     root queue of tv…: netem (delay, loss), in it tbf (rate)
//	what the container sends        ingress of tv… leads to ti… (ifb), whose root queue is tbf
//
// A queue of the kernel's holds back only what leaves by a link, so what the container
// sends takes the way by a second link, ti…, and comes back in.
package limit

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/linux/netlink"
)

// Link is what is limited: the host's end of an endpoint's pair.
type Link struct {
	Name  string
	Index int
	Alias string // of the second link
	Group uint32 // of the second link
	MTU   int
}

// Second is the name of the link by which the packets of a container go that sends by
// link name, an endpoint's ("tv…").
func Second(name string) string { return "ti" + strings.TrimPrefix(name, "tv") }

// MissingError says what the kernel lacks for an option.
type MissingError struct{ Option, Part string }

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s: this kernel has no %s", e.Option, e.Part)
}

// missing makes an error of the kernel a MissingError if it says that something is not
// there.
func missing(err error, option, part string) error {
	if errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.EOPNOTSUPP) {
		return &MissingError{api.ExtensionPrefix + option, part}
	}
	return err
}

// Set gives a link the limits, also if it has others, and returns the number of the
// second link, 0 if there is none now. The error is a MissingError if the kernel cannot;
// what was set before that stays.
func Set(c *netlink.Conn, l Link, to api.NetworkLimits) (second int, err error) {
	if err := setIn(c, l, to); err != nil {
		return 0, err
	}
	return setOut(c, l, to.RateOut)
}

// waits is how many packets wait at the most to be delivered late: those of 100 ms at
// 1 Gbit.
const waits = 10_000

// setIn is Set for what comes to the container.
func setIn(c *netlink.Conn, l Link, to api.NetworkLimits) error {
	var b netlink.Batch
	switch disturbed := to.Delay > 0 || to.Loss > 0; {
	case disturbed:
		b.SetNetem(l.Index, netlink.Netem{Delay: to.Delay, Loss: to.Loss, Limit: waits})
		if err := c.Do(&b); err != nil {
			option := "net-delay"
			if to.Delay == 0 {
				option = "net-loss"
			}
			return missing(err, option, "queue that delays and loses packets (module sch_netem)")
		}
		b = netlink.Batch{}
		if to.RateIn > 0 {
			b.SetNetemQueue(l.Index, bucket(l, to.RateIn))
		} else {
			b.DelNetemQueue(l.Index)
		}
	case to.RateIn > 0:
		b.SetQueue(l.Index, bucket(l, to.RateIn))
	default:
		b.DelQueue(l.Index)
	}
	return missing(c.Do(&b), "net-rate-in", noBucket)
}

const noBucket = "token bucket (module sch_tbf)"

// setOut is Set for what the container sends.
func setOut(c *netlink.Conn, l Link, rate uint64) (second int, err error) {
	have, there, err := c.LinkByName(Second(l.Name))
	if err != nil {
		return 0, err
	}
	var b netlink.Batch
	if rate == 0 {
		b.Undirect(l.Index)
		if there {
			b.DelLink(have.Index)
		}
		return 0, c.Do(&b)
	}
	if !there {
		if have, err = addSecond(c, l); err != nil {
			return 0, err
		}
	}
	b.SetUp(have.Index)
	b.SetQueue(have.Index, bucket(l, rate))
	if err := c.Do(&b); err != nil {
		return have.Index, missing(err, "net-rate-out", noBucket)
	}
	b = netlink.Batch{}
	b.Redirect(l.Index, have.Index)
	return have.Index, missing(c.Do(&b), "net-rate-out", "way to send packets on that come in (modules sch_ingress, cls_u32 and act_mirred)")
}

// addSecond makes the second link.
func addSecond(c *netlink.Conn, l Link) (netlink.Link, error) {
	var b netlink.Batch
	b.AddIFB(Second(l.Name), l.Alias, l.Group)
	if err := c.Do(&b); err != nil {
		return netlink.Link{}, missing(err, "net-rate-out", "link that packets come back from (module ifb)")
	}
	second, _, err := c.LinkByName(Second(l.Name))
	return second, err
}

// Forget removes the second link of one that is gone; it may be gone too.
func Forget(c *netlink.Conn, name string) error {
	second, there, err := c.LinkByName(Second(name))
	if err != nil || !there {
		return err
	}
	var b netlink.Batch
	b.DelLink(second.Index)
	return c.Do(&b)
}

// bucket holds 10 ms of the rate, some packets at least. 200 ms of it wait before it, as
// at the links of providers.
func bucket(l Link, rate uint64) netlink.TBF {
	const packets, header, most = 8, 32, 16 << 20
	mtu := uint64(l.MTU)
	if mtu == 0 {
		mtu = 1500
	}
	burst := max(min(rate/100, most), packets*(mtu+header))
	return netlink.TBF{Rate: rate, Burst: uint32(burst), Limit: uint32(burst + min(max(rate/5, 64<<10), most))}
}
