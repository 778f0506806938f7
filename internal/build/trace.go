package build

import (
	"github.com/moby/buildkit/util/tracing"
	"github.com/moby/buildkit/util/tracing/detect"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
)

// traced has BuildKit note how long what of a build took, in its history ("buildx history
// trace"). BuildKit looks for the recorder in a variable of its own, so there is one of
// the program.
func traced() grpc.ServerOption {
	if detect.Recorder == nil {
		detect.Recorder = detect.NewTraceRecorder()
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithResource(detect.Resource()), sdktrace.WithSyncer(detect.Recorder))
	return grpc.StatsHandler(tracing.ServerStatsHandler(otelgrpc.WithTracerProvider(provider)))
}
