package container

import (
	"errors"
	"maps"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/container/spec"
)

// SetOptions changes options of a container that Docker does not have, in this run and
// the next ones. They are limits of its networks.
func (cs *Connections) SetOptions(ref string, options map[string]string) error {
	return cs.with(ref, func(c *Container, v *View) error {
		host := *v.HostConfig
		host.Annotations = maps.Clone(host.Annotations)
		if host.Annotations == nil {
			host.Annotations = map[string]string{}
		}
		maps.Copy(host.Annotations, options)
		if err := spec.ValidateOptions(&host, options); err != nil {
			return cannotUpdate(v.ID, err)
		}
		was, now := spec.OwnOf(v.HostConfig).Network, spec.OwnOf(&host).Network
		if err := cs.networks.CheckLimits(now); err != nil {
			return cannotUpdate(v.ID, err)
		}
		r := withRecord(v.Record, func(r *Record) { r.HostConfig = &host })
		if c.process == nil || !v.Alive() {
			if err := cs.records.put(r); err != nil {
				return err
			}
			c.publish(func(v *View) { v.Record = r })
		} else if err := cs.change(c, r, func(*os.File) error {
			err := cs.networks.Limit(c.ID, now)
			if err != nil {
				err = cannotUpdate(c.ID, errors.Join(err, cs.networks.Limit(c.ID, was)))
			}
			return err
		}); err != nil {
			return err
		}
		cs.events.publish(c.View(), events.ActionUpdate)
		return nil
	})
}
