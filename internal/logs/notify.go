package logs

// Notify calls f after something has changed in the directory of a log, once for any
// number of changes, until stop. It must not block, nor call stop.
func Notify(dir string, f func()) (stop func(), err error) {
	w, err := wakers.add(dir, f)
	if err != nil {
		return nil, err
	}
	return w.close, nil
}
