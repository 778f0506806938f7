package api

// PathStatHeader is the header that describes the file an archive is of: JSON of
// container.PathStat in base64.
const PathStatHeader = "X-Docker-Container-Path-Stat"
