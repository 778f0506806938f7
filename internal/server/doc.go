// Package server is the REST front door: it turns requests of the Engine API
// into calls of the engine and what these return into answers.
//
// A handler decodes, calls, encodes, and decides nothing:
//
//	func (s *Server) stopContainer(w http.ResponseWriter, r *request) error
//
// All routes stand in one table (routes.go), all statuses of errors in one
// function (status.go), all shapes that only older versions of the API have in
// the shape files. There is one file per noun; it begins with the interface
// that its handlers call, and Backend is the sum of these.
//
// # The way of a request
//
//	Serve       connections beyond the limit get 503 at once (listen.go)
//	net/http    refuses what is no proper HTTP, within 10 s for the header
//	ServeHTTP   headers every answer has; Host and Origin on TCP (door.go)
//	lookUp      route by method and path, which is neither cleaned nor redirected
//	handler     decodes query and body within limits (request.go)
//
// Attach, exec and run take the connection over: see hijacker.
package server
