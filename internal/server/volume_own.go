package server

import (
	"net/http"

	"github.com/tare-engine/tare/api"
)

func (s *Server) cloneVolume(_ http.ResponseWriter, r *request) error {
	var want api.VolumeCloneRequest
	if err := r.body(&want); err != nil {
		return err
	}
	made, err := s.backend.VolumeClone(r.Context(), want)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, made)
}

func (s *Server) renameVolume(_ http.ResponseWriter, r *request) error {
	var want api.VolumeRenameRequest
	if err := r.body(&want); err != nil {
		return err
	}
	v, err := s.backend.VolumeRename(r.Context(), want)
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, v)
}

func (s *Server) exportVolume(_ http.ResponseWriter, r *request) error {
	return s.backend.VolumeExport(r.Context(), r.text("name"), &archiveAnswer{r: r, contentType: "application/x-tar"})
}

func (s *Server) importVolume(_ http.ResponseWriter, r *request) error {
	v, err := s.backend.VolumeImport(r.Context(), r.text("name"), r.Request.Body, r.flag("replace"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, v)
}

func (s *Server) statVolumeFiles(_ http.ResponseWriter, r *request) error {
	return r.statPath(s.backend.VolumePath, r.text("name"))
}

func (s *Server) getVolumeFiles(_ http.ResponseWriter, r *request) error {
	return r.sendPath(s.backend.VolumeFiles, r.text("name"))
}

func (s *Server) putVolumeFiles(_ http.ResponseWriter, r *request) error {
	p, err := r.archivePath()
	if err != nil {
		return err
	}
	if err := s.backend.VolumeExtract(r.Context(), r.text("name"), p, r.Request.Body, r.flag("noOverwriteDirNonDir")); err != nil {
		return err
	}
	r.begin(http.StatusOK, "")
	return nil
}

func (s *Server) volumeSnapshots(_ http.ResponseWriter, r *request) error {
	list, err := s.backend.VolumeSnapshots(r.Context(), r.text("name"))
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}

func (s *Server) takeSnapshot(_ http.ResponseWriter, r *request) error {
	var want api.VolumeSnapshotRequest
	if err := r.body(&want); err != nil {
		return err
	}
	taken, err := s.backend.VolumeSnapshot(r.Context(), want)
	if err != nil {
		return err
	}
	return r.json(http.StatusCreated, taken)
}

func (s *Server) removeSnapshot(_ http.ResponseWriter, r *request) error {
	if err := s.backend.VolumeSnapshotRemove(r.Context(), r.text("name"), r.text("snapshot")); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) rollbackVolume(_ http.ResponseWriter, r *request) error {
	var want api.VolumeSnapshotRequest
	if err := r.body(&want); err != nil {
		return err
	}
	if err := s.backend.VolumeRollback(r.Context(), want); err != nil {
		return err
	}
	return r.noContent()
}

func (s *Server) volumeUsage(_ http.ResponseWriter, r *request) error {
	list, err := s.backend.VolumeUsage(r.Context(), r.query["name"])
	if err != nil {
		return err
	}
	return r.json(http.StatusOK, listOf(list))
}
