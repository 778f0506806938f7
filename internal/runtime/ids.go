package runtime

// HostUID is the host's number of a user of the container.
func (x explainer) HostUID(uid int) int { return uid }
