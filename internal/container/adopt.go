package container

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"

	"github.com/tare-engine/tare/internal/errdefs"
	"github.com/tare-engine/tare/internal/failpoint"
	"github.com/tare-engine/tare/internal/ident"
	"github.com/tare-engine/tare/internal/idrange"
	"github.com/tare-engine/tare/internal/logfile"
)

// idOf is the ID of a container that is to be made.
func (cr *creations) idOf(req *Request, ids *idrange.Map) string {
	if req.Adopted != nil {
		return req.Adopted.ID
	}
	return cr.cells.newID(req, ids)
}

// checkAdopted refuses a container of another engine that cannot come.
func (cr *creations) checkAdopted(a *Adopted) error {
	if !ident.Valid(a.ID) {
		return errdefs.New(errdefs.InvalidArgument, "%.100q is no ID of a container", a.ID)
	}
	if _, err := os.Lstat(cr.records.dir(a.ID)); err == nil || cr.records.damaged(a.ID) {
		return errdefs.New(errdefs.Conflict, "a container with the ID %s is there already", a.ID)
	}
	return cr.layers.CanAdopt()
}

// bring fills the new directory of a container with what it has had elsewhere.
func (cr *creations) bring(ctx context.Context, r *Record, a *Adopted) error {
	if err := cr.layers.Adopt(ctx, r.ID, a.Upper); err != nil {
		return err
	}
	if len(a.Log) == 0 {
		return nil
	}
	err := appendFiles(filepath.Join(cr.records.logDir(r.ID), logfile.Name(r.ID, logfile.JSON)), a.Log)
	failpoint.Hit("import-engine/log-copied")
	return err
}

// appendFiles makes one file of several, to disk.
func appendFiles(path string, files []*os.File) (err error) {
	to, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	for _, f := range files {
		if _, err := io.Copy(to, f); err != nil {
			return err
		}
	}
	return to.Sync()
}
