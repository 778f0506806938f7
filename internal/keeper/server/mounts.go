package server

import "os"

// mountHolder drops mount namespaces. Dropping the last reference unmounts,
// and unmounting an overlay writes its whole upper file system to the disk
// first: seconds, which nobody who waits for an exit should see. The namespace
// is therefore held from the start on and dropped by these workers after the
// exit is reported.
type mountHolder struct{ queue chan *os.File }

const mountWorkers = 4

func newMountHolder() *mountHolder {
	h := &mountHolder{queue: make(chan *os.File, 4096)}
	for range mountWorkers {
		go func() {
			for f := range h.queue {
				f.Close()
			}
		}()
	}
	return h
}

// drop closes f, which may be nil, in a worker. With thousands of exits at
// once it waits.
func (h *mountHolder) drop(f *os.File) {
	if f != nil {
		h.queue <- f
	}
}
