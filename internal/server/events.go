package server

import (
	"encoding/json"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/moby/moby/api/types"
	"github.com/moby/moby/api/types/events"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/internal/errdefs"
)

func (s *Server) streamEvents(w http.ResponseWriter, r *request) error {
	since, err := r.time("since")
	if err != nil {
		return err
	}
	if since.IsZero() && r.text("since") != "" { // "0": all that is known
		since = time.Unix(0, 0)
	}
	until, err := r.time("until")
	if err != nil {
		return err
	}
	if !until.IsZero() && since.After(until) {
		return errdefs.New(errdefs.InvalidArgument, "`since` time (%s) cannot be after `until` time (%s)", r.text("since"), r.text("until"))
	}
	f, err := r.filters()
	if err != nil {
		return err
	}
	// Once the stream has begun there is no status left to say it with.
	if err := f.Validate(api.EventFilters); err != nil {
		return err
	}
	ctx, cancel := s.streamContext(r)
	defer cancel()

	contentType := eventsType(r)
	r.begin(http.StatusOK, contentType)
	r.flush()
	out := &stream{r: r, live: true}
	err = s.backend.Events(ctx, since, until, f, func(m events.Message) error {
		if r.version.Before(46) && m.Type == events.ImageEventType && m.Action == events.ActionCreate {
			return nil
		}
		_, err := out.Write(eventLine(m, contentType, r.version))
		return err
	})
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// eventLine encodes an event with what goes between events.
func eventLine(m events.Message, contentType string, v api.Version) []byte {
	b, _ := json.Marshal(eventShape(m, v)) // strings and numbers only
	if contentType == types.MediaTypeJSONSequence {
		b = append([]byte{0x1e}, b...)
	}
	return append(b, '\n')
}

// eventsType negotiates the content type of the events: since 1.52 the first
// of the Accept header that we have, before that JSON.
func eventsType(r *request) string {
	if r.version.Before(52) {
		return types.MediaTypeJSON
	}
	for accepted := range strings.SplitSeq(strings.Join(r.Header.Values("Accept"), ","), ",") {
		mediaType, params, err := mime.ParseMediaType(accepted)
		if err != nil || params["q"] == "0" {
			continue
		}
		switch mediaType {
		case types.MediaTypeJSONSequence, types.MediaTypeNDJSON, types.MediaTypeJSON:
			return mediaType
		case types.MediaTypeJSONLines:
			if !r.version.Before(53) {
				return mediaType
			}
		}
	}
	return types.MediaTypeJSON
}
