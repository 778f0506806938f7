// Package undo takes back the finished steps of work that fails half way.
//
//	func (s *Service) Create(ctx context.Context) (_ *Thing, err error) {
//		var u undo.Stack
//		defer u.Run(&err)
//
//		root, err := s.layers.Prepare(ctx, id)
//		if err != nil {
//			return nil, err
//		}
//		u.Add(func() error { return s.layers.Remove(context.WithoutCancel(ctx), id) })
//		…
package undo

import "errors"

// Stack is a list of steps that take something back. The zero value is empty.
type Stack struct{ steps []func() error }

// Add puts a step on top. It must be safe to repeat and must not depend on a
// context that may be cancelled.
func (s *Stack) Add(step func() error) { s.steps = append(s.steps, step) }

// Run takes everything back, newest first, if *err is set, and joins the
// errors of doing so to it. It does nothing after success.
func (s *Stack) Run(err *error) {
	if *err == nil {
		return
	}
	for i := len(s.steps) - 1; i >= 0; i-- {
		if e := s.steps[i](); e != nil {
			*err = errors.Join(*err, e)
		}
	}
	s.steps = nil
}
