package spec

import (
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

func TestOwnOptions(t *testing.T) {
	h := &container.HostConfig{Annotations: map[string]string{TimeoutAnnotation: "90", UnhealthyAnnotation: "kill", "org.example": "tare.x"}}
	if err := validateOwn(h); err != nil {
		t.Fatal(err)
	}
	if got, want := OwnOf(h), (Own{90 * time.Second, "kill"}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := OwnOf(&container.HostConfig{Annotations: map[string]string{UnhealthyAnnotation: "none"}}); got != (Own{}) {
		t.Errorf("none is %+v", got)
	}
	always := container.RestartPolicy{Name: container.RestartPolicyAlways}
	for _, tc := range []struct {
		key, value string
		policy     container.RestartPolicy
		want       string
	}{
		{TimeoutAnnotation, "", container.RestartPolicy{}, "whole number of seconds"},
		{TimeoutAnnotation, "-1", container.RestartPolicy{}, "whole number of seconds"},
		{TimeoutAnnotation, "1s", container.RestartPolicy{}, `"1s"`},
		{TimeoutAnnotation, "99999999999999", container.RestartPolicy{}, "whole number of seconds"},
		{UnhealthyAnnotation, "reboot", container.RestartPolicy{}, "none, kill, restart or stop"},
		{UnhealthyAnnotation, "restart", always, "the restart policy always"},
		{"tare.tiemout", "5", container.RestartPolicy{}, `unknown annotation "tare.tiemout"`},
	} {
		err := validateOwn(&container.HostConfig{Annotations: map[string]string{tc.key: tc.value}, RestartPolicy: tc.policy})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
}
