package container

import (
	"errors"
	"maps"
	"os"

	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/api"
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
		var err error
		if c.runs() {
			err = cs.change(c, r, func(*os.File) error { return cs.relimit(c.ID, was, now) })
		} else {
			err = cs.write(c, r) // a cell that it has gets its limits when it is bound
		}
		if err == nil {
			cs.events.publish(c.View(), events.ActionUpdate)
		}
		return err
	})
}

// relimit gives a running container other limits, or else those that it had.
func (cs *Connections) relimit(id string, was, now api.NetworkLimits) error {
	err := cs.networks.Limit(id, now)
	if err != nil {
		err = cannotUpdate(id, errors.Join(err, cs.networks.Limit(id, was)))
	}
	return err
}
