package main

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"
	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/api"
	"github.com/tare-engine/tare/client"
	"github.com/tare-engine/tare/cmd/tare/format"
)

type imagesOptions struct {
	all, digests, noTrunc, quiet, tree bool
	format                             string
	filters                            api.Filters
}

func newImagesCommand(c *cli) *cobra.Command {
	o := imagesOptions{filters: api.Filters{}}
	cmd := &cobra.Command{
		Use:         "images [OPTIONS] [REPOSITORY[:TAG]]",
		Short:       "List images",
		Args:        rangeArgs(0, 1),
		Annotations: aliases("image ls", "image list", "images"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if len(args) == 1 {
				o.filters.Add("reference", args[0])
			}
			if o.tree {
				return runImagesTree(ctx, cl, c.out, o)
			}
			if o.format == "" && !o.quiet {
				o.format = c.config.ImagesFormat
			}
			return runImages(ctx, cl, c.out, o)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "Show intermediate images too")
	f.BoolVar(&o.digests, "digests", false, "Show digests")
	f.VarP(filterFlag{o.filters}, "filter", "f", "Show only what meets a condition, such as dangling=true")
	f.StringVar(&o.format, "format", "", formatHelp)
	f.BoolVar(&o.noTrunc, "no-trunc", false, "Show values at full length")
	f.BoolVarP(&o.quiet, "quiet", "q", false, "Show image IDs only")
	f.BoolVar(&o.tree, "tree", false, "Show the platforms of each image too")
	return cmd
}

func runImages(ctx context.Context, cl *client.Client, out io.Writer, o imagesOptions) error {
	list, err := cl.ImageList(ctx, api.ImageListOptions{All: o.all, Filters: o.filters})
	if err != nil {
		return err
	}
	digests := o.digests || strings.Contains(o.format, "{{.Digest}}")
	var rows []imageRow
	for i := range list {
		rows = append(rows, imageRows(&list[i], digests, o.noTrunc)...)
	}
	if o.quiet && (o.format == "" || strings.HasPrefix(o.format, "table")) {
		return format.Lines(out, imageRow.ID, rows)
	}
	return format.Print(out, o.format, imageColumns(o.digests), imageFields(), rows)
}

// imageFields are what templates see of an image.
func imageFields() format.Fields[imageRow] {
	return format.Fields[imageRow]{Type: "*formatter.imageContext", List: []format.Field[imageRow]{
		format.Text("ID", "IMAGE ID", imageRow.ID),
		format.Text("Repository", "", imageRow.Repository),
		format.Text("Tag", "", imageRow.Tag),
		format.Text("Digest", "", imageRow.Digest),
		format.Text("CreatedSince", "CREATED", imageRow.CreatedSince),
		format.Text("CreatedAt", "CREATED AT", imageRow.CreatedAt),
		format.Text("Size", "", imageRow.Size),
		format.Text("Containers", "", imageRow.Containers),
		format.Text("VirtualSize", "VIRTUAL SIZE", imageRow.VirtualSize),
		format.Text("SharedSize", "SHARED SIZE", imageRow.SharedSize),
		format.Text("UniqueSize", "UNIQUE SIZE", imageRow.UniqueSize),
		format.Own(format.Text("LastUsed", "LAST USED", imageRow.LastUsed)),
		format.Own(format.Text("Pinned", "", imageRow.Pinned)),
	}}
}

func imageColumns(digests bool) []format.Column[imageRow] {
	columns := []format.Column[imageRow]{
		{Title: "REPOSITORY", Value: imageRow.Repository},
		{Title: "TAG", Value: imageRow.Tag},
	}
	if digests {
		columns = append(columns, format.Column[imageRow]{Title: "DIGEST", Value: imageRow.Digest})
	}
	return append(columns,
		format.Column[imageRow]{Title: "IMAGE ID", Value: imageRow.ID},
		format.Column[imageRow]{Title: "CREATED", Value: imageRow.CreatedSince},
		format.Column[imageRow]{Title: "SIZE", Value: imageRow.Size},
	)
}

const none = "<none>"

// imageRow is a name of an image as images and templates show it.
type imageRow struct {
	i                 *api.ImageSummary
	repo, tag, digest string
	full              bool
}

// imageRows makes a row of each name of an image: one for a tag, or one for
// each digest of its repository where digests are asked for.
func imageRows(i *api.ImageSummary, digests, full bool) []imageRow {
	byRepo := map[string][]string{}
	for _, d := range i.RepoDigests {
		if repo, digest, ok := strings.Cut(d, "@"); ok {
			byRepo[familiar(repo)] = append(byRepo[familiar(repo)], digest)
		}
	}
	var rows []imageRow
	add := func(repo, tag string, found []string) {
		if len(found) == 0 || !digests {
			found = []string{none}
		}
		for _, d := range found {
			rows = append(rows, imageRow{i: i, repo: repo, tag: tag, digest: d, full: full})
		}
	}
	tagged := map[string]bool{}
	for _, ref := range i.RepoTags {
		repo, tag := splitTag(ref)
		if repo == none {
			continue
		}
		repo = familiar(repo)
		tagged[repo] = true
		add(repo, tag, byRepo[repo])
	}
	for _, d := range i.RepoDigests { // names without a tag, in the engine's order
		repo, _, _ := strings.Cut(d, "@")
		if repo = familiar(repo); repo != none && !tagged[repo] {
			tagged[repo] = true
			add(repo, none, byRepo[repo])
		}
	}
	if len(rows) == 0 {
		add(none, none, nil)
	}
	return rows
}

func (r imageRow) ID() string {
	if r.full {
		return r.i.ID
	}
	return format.ShortID(r.i.ID)
}

func (r imageRow) Repository() string { return r.repo }
func (r imageRow) Tag() string        { return r.tag }
func (r imageRow) Digest() string     { return r.digest }
func (r imageRow) CreatedAt() string  { return time.Unix(r.i.Created, 0).String() }
func (r imageRow) Size() string       { return format.Size(r.i.Size) }

func (r imageRow) CreatedSince() string {
	if r.i.Created <= 0 {
		return "N/A" // reproducible builds set no time
	}
	return format.Ago(time.Unix(r.i.Created, 0), time.Now())
}

func (r imageRow) Containers() string {
	if r.i.Containers < 0 {
		return "N/A"
	}
	return strconv.FormatInt(r.i.Containers, 10)
}

// LastUsed is not told by other engines.
func (r imageRow) LastUsed() string {
	if r.i.LastUsed <= 0 {
		return "N/A"
	}
	return format.Ago(time.Unix(r.i.LastUsed, 0), time.Now())
}

func (r imageRow) Pinned() string { return strconv.FormatBool(r.i.Pinned) }

func (r imageRow) VirtualSize() string { return units.HumanSize(float64(r.i.Size)) }

func (r imageRow) SharedSize() string {
	if r.i.SharedSize < 0 {
		return "N/A"
	}
	return units.HumanSize(float64(r.i.SharedSize))
}

func (r imageRow) UniqueSize() string {
	if r.i.SharedSize < 0 || r.i.Size < 0 {
		return "N/A"
	}
	return units.HumanSize(float64(r.i.Size - r.i.SharedSize))
}
