// Package api is what client, server and engine of the Engine API agree on
// beside the wire types of github.com/moby/moby/api: versions, filters, option
// types, the framing of attached streams and the detach keys.
//
// It has no behaviour of its own and stays light: the command line links it.
//
// # Versions
//
// A request names the version of the API it speaks in its path:
//
//	GET /v1.44/containers/json        version 1.44
//	GET /containers/json              the newest, [MaxVersion]
//
// The engine answers [MinVersion] to [MaxVersion]; older versions get the older
// shapes of requests and answers.
//
// # Streams
//
// The output of a container without a terminal travels in frames of one stream
// each (see [FrameWriter] and [Demux]); with a terminal it travels as it is.
package api
