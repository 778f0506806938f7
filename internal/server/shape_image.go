package server

import (
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/moby/moby/api/types/image"
	"github.com/tare-engine/tare/api"
)

// imageListShape is a list of images as the version of the API shows it. It
// changes list, whose elements must not be shared.
func imageListShape(list []image.Summary, v api.Version) any {
	for i := range list {
		imageSummaryShape(&list[i], v)
	}
	if !v.Before(44) {
		return listOf(list)
	}
	old := make([]imageSummary143, len(list))
	for i, img := range list {
		old[i] = imageSummary143{Summary: img, VirtualSize: img.Size}
	}
	return old
}

// imageSummariesShape is imageListShape of a list with our fields.
func imageSummariesShape(list []api.ImageSummary, v api.Version) any {
	for i := range list {
		imageSummaryShape(&list[i].Summary, v)
	}
	if !v.Before(44) {
		return listOf(list)
	}
	old := make([]ourSummary143, len(list))
	for i, img := range list {
		old[i] = ourSummary143{ImageSummary: img, VirtualSize: img.Size}
	}
	return old
}

func imageSummaryShape(img *image.Summary, v api.Version) {
	if v.Before(43) && len(img.RepoTags) == 0 && len(img.RepoDigests) == 0 {
		img.RepoTags, img.RepoDigests = []string{"<none>:<none>"}, []string{"<none>@<none>"}
	}
	img.RepoTags, img.RepoDigests = listOf(img.RepoTags), listOf(img.RepoDigests)
	if v.Before(47) {
		img.Manifests = nil
	}
	if v.Before(48) {
		img.Descriptor = nil
	}
}

type ourSummary143 struct {
	api.ImageSummary
	VirtualSize int64
}

// imageSummary143 names the size twice, from the time when a layer's size and
// that of its chain were told apart.
type imageSummary143 struct {
	image.Summary
	VirtualSize int64
}

// imageShape is an image as the version shows it.
func imageShape(img api.ImageInspect, v api.Version) any {
	img.RepoTags, img.RepoDigests = listOf(img.RepoTags), listOf(img.RepoDigests)
	if v.Before(48) {
		img.Descriptor, img.Manifests = nil, nil
	}
	if v.Before(53) {
		img.Identity = nil
	}
	if !v.Before(52) {
		return img
	}
	old := image151{ImageInspect: img, Parent: img.Parent, Comment: img.Comment, Author: img.Author, Config: imageConfigShape(img.Config, v)}
	if v.Before(44) {
		old.VirtualSize = &img.Size
	}
	if v.Before(45) {
		old.Container, old.ContainerConfig = new(string), imageConfigShape(&dockerspec.DockerOCIImageConfig{}, v)
	}
	return old
}

// image151 shows fields that since 1.52 are left out when they are empty, and
// with older versions those that went with 1.44 and 1.45.
type image151 struct {
	api.ImageInspect
	Parent          string
	Comment         string
	DockerVersion   string
	Author          string
	Config          any
	VirtualSize     *int64  `json:",omitempty"`
	Container       *string `json:",omitempty"`
	ContainerConfig any     `json:",omitempty"`
}

// imageConfig151 shows all fields of an image's configuration.
type imageConfig151 struct {
	*dockerspec.DockerOCIImageConfig
	User         string
	ExposedPorts map[string]struct{} `json:",omitempty"`
	Env          []string
	Entrypoint   []string
	Cmd          []string
	Volumes      map[string]struct{}
	WorkingDir   string
	Labels       map[string]string
	OnBuild      []string
}

// imageConfig149 shows also the fields of a container's configuration that an
// image never had.
type imageConfig149 struct {
	Hostname     string
	Domainname   string
	AttachStdin  bool
	AttachStdout bool
	AttachStderr bool
	Tty          bool
	OpenStdin    bool
	StdinOnce    bool
	Image        string
	imageConfig151
}

func imageConfigShape(c *dockerspec.DockerOCIImageConfig, v api.Version) any {
	if c == nil {
		return nil
	}
	old := imageConfig151{
		DockerOCIImageConfig: c, User: c.User, ExposedPorts: c.ExposedPorts, Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		Volumes: c.Volumes, WorkingDir: c.WorkingDir, Labels: c.Labels, OnBuild: c.OnBuild,
	}
	if v.Before(50) {
		return imageConfig149{imageConfig151: old}
	}
	return old
}
