package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/tare-engine/tare/client"
)

func newTagCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:         "tag SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
		Short:       "Give an image another name",
		Args:        exactArgs(2),
		Annotations: aliases("image tag", "tag"),
		RunE: c.connected(func(ctx context.Context, cl *client.Client, args []string) error {
			if _, digest, ok := strings.Cut(args[1], "@"); ok && strings.HasPrefix(digest, "sha256:") {
				return errors.New("refusing to create a tag with a digest reference")
			}
			repo, tag := splitTag(args[1])
			if tag == "" {
				tag = "latest"
			}
			err := cl.ImageTag(ctx, args[0], repo, tag)
			if text, ok := badReference(err); ok {
				return fmt.Errorf("Error parsing reference: %q is not a valid repository/tag: %s", args[1], text)
			}
			return err
		}),
	}
}
