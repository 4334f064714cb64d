package check

import (
	"context"

	"github.com/overlane/overlane/engine"
	"github.com/overlane/overlane/names"
)

// resolution asks for what containers' names need of the kernel, in a network namespace made for that.
func resolution() Result {
	if err := names.Try(); err != nil {
		return Result{"names", Warn, err.Error(), "install Linux 5.9 or later and give the daemon CAP_NET_ADMIN and CAP_SYS_ADMIN: until then containers find those of other hosts by address alone"}
	}
	return Result{"names", OK, "a program that hands containers' DNS queries to overlane was loaded, and removed", ""}
}

// engineSocket asks Docker's engine, from which names are heard.
func engineSocket(path string) Result {
	const check = "Docker's engine"
	if path == "" {
		return Result{check, OK, "--docker-socket is none: this host's containers have no names", ""}
	}
	if err := engine.Ping(context.Background(), path); err != nil {
		return Result{check, Warn, err.Error(), "start Docker, or give --docker-socket the path of its socket; a managed plugin wants /proc/1/root/run/docker.sock; where there is no Docker give none. Until then this host's containers have no names"}
	}
	return Result{check, OK, "it answers on " + path, ""}
}
