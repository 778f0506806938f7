package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
)

// Batch is a list of changes of one table that are made together or not at all.
type Batch struct{ steps []step }

type step func(c *nftables.Conn, t *nftables.Table) error

func (b *Batch) add(s step) { b.steps = append(b.steps, s) }

// AddSet makes a set with its elements; what one of the same name held goes.
func (b *Batch) AddSet(s *Set) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		h := s.handle(t)
		if err := c.AddSet(h, nil); err != nil {
			return err
		}
		c.FlushSet(h)
		return addElements(c, h, s.Elements)
	})
}

// AddChain makes a chain without rules.
func (b *Batch) AddChain(ch Chain) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		c.AddChain(ch.handle(t))
		return nil
	})
}

// SetRules gives a chain its rules in the place of those that it has.
func (b *Batch) SetRules(ch Chain) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		chain := ch.handle(t)
		c.FlushChain(chain)
		for _, r := range ch.Rules {
			c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: r.exprs()})
		}
		return nil
	})
}

// Add adds elements to a set. What is there already is no error; a key of a map
// that has another value is EEXIST.
func (b *Batch) Add(s *Set, e ...Element) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error { return addElements(c, s.handle(t), e) })
}

// Delete removes elements from a set; ENOENT if one is not there.
func (b *Batch) Delete(s *Set, e ...Element) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error { return c.SetDeleteElements(s.handle(t), elements(e)) })
}

// DeleteChain removes a chain with its rules; EBUSY if something leads there.
func (b *Batch) DeleteChain(name string) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		c.DelChain(&nftables.Chain{Table: t, Name: name})
		return nil
	})
}

// DeleteSet removes a set with its elements; EBUSY if a rule looks into it.
func (b *Batch) DeleteSet(name string) {
	b.add(func(c *nftables.Conn, t *nftables.Table) error {
		c.DelSet(&nftables.Set{Table: t, Name: name})
		return nil
	})
}

// Elsewhere is a chain of a table that belongs to somebody else.
type Elsewhere struct{ Family, Table, Chain string }

func (e Elsewhere) handle() (*nftables.Table, *nftables.Chain) {
	t := &nftables.Table{Name: e.Table, Family: familyNumber(e.Family)}
	return t, &nftables.Chain{Table: t, Name: e.Chain}
}

// Insert puts a rule before those of somebody else's chain, with a comment by which
// it is recognized.
func (b *Batch) Insert(at Elsewhere, r Rule, comment string) {
	b.add(func(c *nftables.Conn, _ *nftables.Table) error {
		t, ch := at.handle()
		c.InsertRule(&nftables.Rule{Table: t, Chain: ch, Exprs: r.exprs(), UserData: userdata.AppendString(nil, userdata.TypeComment, comment)})
		return nil
	})
}

// TakeBack removes such a rule; ENOENT if it is not there.
func (b *Batch) TakeBack(at Elsewhere, handle uint64) {
	b.add(func(c *nftables.Conn, _ *nftables.Table) error {
		t, ch := at.handle()
		return c.DelRule(&nftables.Rule{Table: t, Chain: ch, Handle: handle})
	})
}

// Len is the number of changes.
func (b *Batch) Len() int { return len(b.steps) }

// Do makes the changes in one transaction. They cost the same in a large table
// as in a small one.
func (c *Conn) Do(table string, b *Batch) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.do(handle(table), b); err != nil {
		return fmt.Errorf("nftables table inet %s: %w", table, err)
	}
	return nil
}

// do collects the changes and commits them with what was collected before.
//
// Preconditions: c.mu is held.
func (c *Conn) do(t *nftables.Table, b *Batch) error {
	for _, s := range b.steps {
		if err := s(c.c, t); err != nil {
			return errors.Join(err, c.redial())
		}
	}
	return c.flush()
}

// perMessage bounds the elements of one message: their attribute's length has
// 16 bits.
const perMessage = 400

func addElements(c *nftables.Conn, s *nftables.Set, all []Element) error {
	for len(all) > 0 {
		n := min(len(all), perMessage)
		if err := c.SetAddElements(s, elements(all[:n])); err != nil {
			return err
		}
		all = all[n:]
	}
	return nil
}

func elements(es []Element) []nftables.SetElement {
	list := make([]nftables.SetElement, len(es))
	for i, e := range es {
		list[i] = e.element()
	}
	return list
}
