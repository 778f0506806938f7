package main

import "github.com/tare-engine/tare/internal/linux/tty"

// screenWidth is that of the terminal that is written to, or 0.
func screenWidth() int {
	_, cols, err := tty.Size(1)
	if err != nil {
		return 0
	}
	return int(cols)
}
