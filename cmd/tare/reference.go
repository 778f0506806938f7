package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A reference is read by the engine; here it is only taken apart, as much as the
// requests and the texts need. What no engine gets to see is read by normalize.

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

// normalize reads a reference as the engine does and returns it in full, with the
// tag that is meant where it has neither tag nor digest. Its errors are docker's.
// (The library for it is regular expressions, a millisecond of every start.)
func normalize(s string) (string, error) {
	if isID(s) {
		return "", fmt.Errorf("invalid repository name (%s), cannot specify 64-byte hexadecimal strings", s)
	}
	full := canonical(s)
	_, path, _ := strings.Cut(full, "/")
	path, _, _ = strings.Cut(path, ":")
	if strings.ToLower(path) != path {
		return "", fmt.Errorf("invalid reference format: repository name (%s) must be lowercase", path)
	}
	p, ok := parseReference(full)
	if !ok {
		if _, ok := parseReference(strings.ToLower(full)); ok {
			return "", errors.New("repository name must be lowercase")
		}
		return "", errors.New("invalid reference format")
	}
	if len(p.path) > maxPath {
		return "", fmt.Errorf("repository name must not be more than %d characters", maxPath)
	}
	if p.digest != "" {
		if _, err := digest.Parse(p.digest); err != nil {
			return "", err
		}
	} else if p.tag == "" {
		full += ":latest"
	}
	return full, nil
}

const maxPath = 255 // characters of a repository's name without its registry

// isID reports whether a text is 64 hexadecimal digits, which stand for an image.
func isID(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// referenceParts are those of a reference in full; the last two may be empty.
type referenceParts struct{ domain, path, tag, digest string }

// parseReference takes a reference apart whose name may begin with a registry.
func parseReference(s string) (p referenceParts, ok bool) {
	name, hash, hashed := strings.Cut(s, "@")
	if p.digest = hash; hashed && !isDigest(hash) {
		return p, false
	}
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		if p.tag = name[i+1:]; !isTag(p.tag) {
			return p, false
		}
		name = name[:i]
	}
	if p.domain, p.path, _ = strings.Cut(name, "/"); !isDomain(p.domain) || p.path == "" {
		p.domain, p.path = "", name
	}
	for part := range strings.SplitSeq(p.path, "/") {
		if !isPathPart(part) {
			return p, false
		}
	}
	return p, true
}

// isPathPart: letters in lower case and digits, with one dot, one or two
// underscores, or hyphens in between.
func isPathPart(s string) bool {
	between := ""
	for i, c := range []byte(s) {
		switch {
		case isLower(c) || isNumber(c):
			if hyphens := strings.Trim(between, "-") == ""; !hyphens && between != "." && between != "_" && between != "__" {
				return false
			}
			between = ""
		case i > 0 && (c == '.' || c == '_' || c == '-'):
			between += s[i : i+1]
		default:
			return false
		}
	}
	return s != "" && between == ""
}

func isTag(s string) bool {
	return s != "" && len(s) <= 128 && s[0] != '.' && s[0] != '-' && every(s, func(c byte) bool {
		return isLetter(c) || isNumber(c) || c == '_' || c == '.' || c == '-'
	})
}

// isDomain: a host, or an IPv6 address in brackets, and perhaps a port.
func isDomain(s string) bool {
	if address, rest, ok := strings.Cut(strings.TrimPrefix(s, "["), "]"); ok && strings.HasPrefix(s, "[") {
		return address != "" && every(address, func(c byte) bool { return isHex(c) || c == ':' }) && (rest == "" || isPort(rest))
	}
	if i := strings.IndexByte(s, ':'); i >= 0 {
		if !isPort(s[i:]) {
			return false
		}
		s = s[:i]
	}
	for part := range strings.SplitSeq(s, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' || !every(part, func(c byte) bool { return isLetter(c) || isNumber(c) || c == '-' }) {
			return false
		}
	}
	return true
}

func isPort(s string) bool { return len(s) > 1 && s[0] == ':' && every(s[1:], isNumber) }

// isDigest: words that begin with a letter, joined by one of "-_+.", a colon, and
// at least 32 hexadecimal digits. Which algorithms there are their package knows.
func isDigest(s string) bool {
	algorithm, sum, _ := strings.Cut(s, ":")
	begins := true
	for i := range len(algorithm) {
		c := algorithm[i]
		switch {
		case isLetter(c) || isNumber(c) && !begins:
			begins = false
		case strings.IndexByte("-_+.", c) >= 0 && !begins:
			begins = true
		default:
			return false
		}
	}
	return !begins && len(sum) >= 32 && every(sum, isHex)
}

func every(s string, is func(byte) bool) bool {
	for i := range len(s) {
		if !is(s[i]) {
			return false
		}
	}
	return true
}

func isLower(c byte) bool  { return c >= 'a' && c <= 'z' }
func isLetter(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' }
func isNumber(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool    { return isNumber(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' }
