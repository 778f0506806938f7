package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"time"
)

// logger writes messages in the forms that runc's callers read.
type logger struct {
	file *os.File // nil: stderr only
	json bool
}

func (l *logger) open(name, format string) error {
	switch format {
	case "text", "":
	case "json":
		l.json = true
	default:
		return fmt.Errorf("invalid log-format: %q", format)
	}
	if name == "" || name == "/dev/stderr" {
		return nil
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_SYNC, 0o644)
	l.file = f
	return err
}

func (l *logger) write(level, text string) {
	line := l.line(level, text)
	if l.file == nil {
		os.Stderr.WriteString(line)
		return
	}
	// Whoever gave the file reads it; a person sees stderr.
	if _, err := l.file.WriteString(line); err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
	}
	if level == "error" {
		os.Stderr.WriteString(text + "\n")
	}
}

func (l *logger) line(level, text string) string {
	now := time.Now().Format(time.RFC3339)
	if l.json {
		b, err := json.Marshal(struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
			Time  string `json:"time"`
		}{level, text, now})
		if err == nil {
			return string(b) + "\n"
		}
	}
	return "time=" + strconv.Quote(now) + " level=" + level + " msg=" + strconv.Quote(text) + "\n"
}

func (l *logger) debug(format string, args ...any) { l.write("debug", fmt.Sprintf(format, args...)) }

func (l *logger) warn(format string, args ...any) { l.write("warning", fmt.Sprintf(format, args...)) }
