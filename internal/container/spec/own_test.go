package spec

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/tare-engine/tare/api"
)

func TestOwnOptions(t *testing.T) {
	h := &container.HostConfig{Annotations: map[string]string{"tare.timeout": "90", "tare.health-on-failure": "kill", "org.example": "tare.x"}}
	if err := validateOwn(h); err != nil {
		t.Fatal(err)
	}
	if got, want := OwnOf(h), (api.Extensions{Timeout: 90 * time.Second, OnUnhealthy: "kill"}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := OwnOf(&container.HostConfig{Annotations: map[string]string{"tare.health-on-failure": "none"}}); !reflect.DeepEqual(got, api.Extensions{}) {
		t.Errorf("none is %+v", got)
	}
	always := container.RestartPolicy{Name: container.RestartPolicyAlways}
	for _, tc := range []struct {
		key, value string
		policy     container.RestartPolicy
		want       string
	}{
		{"tare.timeout", "", container.RestartPolicy{}, "whole number of seconds"},
		{"tare.timeout", "-1", container.RestartPolicy{}, "whole number of seconds"},
		{"tare.timeout", "1s", container.RestartPolicy{}, `"1s"`},
		{"tare.timeout", "99999999999999", container.RestartPolicy{}, "whole number of seconds"},
		{"tare.health-on-failure", "reboot", container.RestartPolicy{}, "none, kill, restart or stop"},
		{"tare.health-on-failure", "restart", always, "the restart policy always"},
		{"tare.tiemout", "5", container.RestartPolicy{}, `unknown annotation "tare.tiemout"`},
	} {
		err := validateOwn(&container.HostConfig{Annotations: map[string]string{tc.key: tc.value}, RestartPolicy: tc.policy})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s=%s: %v, want %q", tc.key, tc.value, err, tc.want)
		}
	}
}

func TestStartupProbeNeedsWhatFollows(t *testing.T) {
	probe := map[string]string{"tare.health-startup-cmd": "true", "tare.health-startup-retries": "2"}
	for name, c := range map[string]struct {
		annotations map[string]string
		check       *container.HealthConfig
		remove      bool
		want        string
	}{
		"whole":          {probe, &container.HealthConfig{Test: []string{"CMD", "true"}}, false, ""},
		"none":           {nil, nil, true, ""},
		"no check":       {probe, nil, false, "the startup probe needs a health check"},
		"check is NONE":  {probe, &container.HealthConfig{Test: []string{"NONE"}}, false, "the startup probe needs a health check"},
		"check is empty": {probe, &container.HealthConfig{Retries: 3}, false, "the startup probe needs a health check"},
		"no probe":       {map[string]string{"tare.health-startup-timeout": "1s"}, nil, false, "there is none, such as tare.health-startup-cmd"},
		"bad probe":      {map[string]string{"tare.health-startup-http": "ftp://x"}, nil, false, "the URL begins with http:// or https://"},
		"removed":        {probe, &container.HealthConfig{Test: []string{"CMD", "true"}}, true, "only one of them is possible"},
	} {
		h := &container.HostConfig{Annotations: c.annotations, AutoRemove: c.remove}
		err := validateOwn(h)
		if err == nil {
			err = ValidateStartup(&container.Config{Healthcheck: c.check}, h)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}
