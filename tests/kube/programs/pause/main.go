// The first process of every pod: it holds the pod's namespaces and reaps what is left to it, until it is told to end.
package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	asked := make(chan os.Signal, 16)
	signal.Notify(asked, syscall.SIGCHLD, syscall.SIGINT, syscall.SIGTERM)
	for heard := range asked {
		if heard != syscall.SIGCHLD {
			return
		}
		for {
			// Several children may end behind one signal.
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
