package main

import "strings"

// A reference is read by the engine; here it is only taken apart, as much as the
// requests and the texts need.

// splitTag parts a reference into name and tag or digest. The colon of a
// registry's port is no tag.
func splitTag(ref string) (name, tag string) {
	if name, digest, ok := strings.Cut(ref, "@"); ok {
		return name, digest
	}
	slash := strings.LastIndexByte(ref, '/')
	if colon := strings.LastIndexByte(ref, ':'); colon > slash {
		return ref[:colon], ref[colon+1:]
	}
	return ref, ""
}

// withTag adds the tag that is meant where none is given.
func withTag(ref string) string {
	if _, tag := splitTag(ref); tag == "" {
		return ref + ":latest"
	}
	return ref
}

// repositoryOf parts a reference into what the requests of a pull or push name.
// A tag beside a digest says nothing; where neither is given the name stays as
// it was typed, for the engine to refuse "x:".
func repositoryOf(ref string) (repo, tag string) {
	repo, tag = splitTag(ref)
	switch {
	case tag == "":
		return ref, ""
	case strings.Contains(ref, "@"):
		repo, _ = splitTag(repo)
	}
	return repo, tag
}

// hubDomain is the registry that is meant where a reference names none.
const hubDomain = "docker.io"

// splitDomain takes the registry off a reference. The first part of a name is
// one if it cannot be a user of Docker Hub.
func splitDomain(ref string) (domain, path string) {
	first, rest, ok := strings.Cut(ref, "/")
	if !ok || !strings.ContainsAny(first, ".:") && first != "localhost" && first == strings.ToLower(first) {
		return hubDomain, ref
	}
	if first == "index.docker.io" {
		first = hubDomain
	}
	return first, rest
}

// canonical is a reference with all that people do not type.
func canonical(ref string) string {
	domain, path := splitDomain(ref)
	if domain == hubDomain && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return domain + "/" + path
}

// familiar leaves out the parts of a name that people do not type.
func familiar(name string) string {
	if short, ok := strings.CutPrefix(name, "docker.io/"); ok {
		return strings.TrimPrefix(short, "library/")
	}
	return name
}
