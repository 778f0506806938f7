package container

import (
	"github.com/moby/moby/api/types/events"

	"github.com/tare-engine/tare/internal/event"
)

// eventLog tells listeners what happens to containers.
type eventLog struct{ log *event.Log }

// publish tells what happened to a container; extra are names and values of
// further attributes.
func (l eventLog) publish(v *View, action events.Action, extra ...string) {
	attrs := make(map[string]string, len(v.Config.Labels)+4)
	for k, l := range v.Config.Labels {
		attrs[k] = l
	}
	attrs["image"] = v.Config.Image
	attrs["name"] = v.Name
	for i := 0; i+1 < len(extra); i += 2 {
		attrs[extra[i]] = extra[i+1]
	}
	l.log.Publish(events.ContainerEventType, action, v.ID, attrs)
}
