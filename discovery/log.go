package discovery

import (
	"log"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// limiter lets each text through once in a while.
type limiter struct {
	interval time.Duration
	mu       sync.Mutex
	last     map[string]time.Time
}

// maxLimited bounds the texts remembered.
const maxLimited = 256

func newLimiter(interval time.Duration) *limiter {
	return &limiter{interval: interval, last: map[string]time.Time{}}
}

func (l *limiter) allow(text string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if at, ok := l.last[text]; ok && now.Sub(at) < l.interval {
		return false
	}
	if len(l.last) >= maxLimited {
		clear(l.last)
	}
	l.last[text] = now
	return true
}

// memberlistLogger gives memberlist's lines to the log with their level.
// Warnings and errors come once in a while.
func (c *Cluster) memberlistLogger() *log.Logger {
	return log.New(logWriter{c}, "", 0)
}

type logWriter struct{ cluster *Cluster }

var memberlistLevels = map[string]logrus.Level{
	"[DEBUG]": logrus.DebugLevel,
	"[INFO]":  logrus.InfoLevel,
	"[WARN]":  logrus.WarnLevel,
	"[ERR]":   logrus.ErrorLevel,
	"[ERROR]": logrus.ErrorLevel,
}

func (w logWriter) Write(line []byte) (int, error) {
	prefix, text, _ := strings.Cut(strings.TrimSpace(string(line)), " ")
	level, ok := memberlistLevels[prefix]
	if !ok {
		level, text = logrus.InfoLevel, strings.TrimSpace(string(line))
	}
	cause, from, _ := strings.Cut(text, " from=")
	if strings.Contains(text, errStranger.Error()) || strings.Contains(text, errCrowd.Error()) {
		level = logrus.DebugLevel // it was told of
	}
	if level <= logrus.WarnLevel && isKeyError(text) {
		w.cluster.reject("key")
		host := from
		if a, err := netip.ParseAddrPort(from); err == nil {
			host = a.Addr().Unmap().String()
			w.cluster.affiliation.refuseKey(netip.AddrPortFrom(a.Addr().Unmap(), 0))
		}
		cause = "refused gossip from " + host + ": it has another token, or only one side has one"
		text = cause
	}
	if level > logrus.WarnLevel || w.cluster.limiter.allow(cause) {
		logAt(w.cluster.log, level, text)
	}
	return len(line), nil
}

func logAt(l logrus.FieldLogger, level logrus.Level, text string) {
	switch level {
	case logrus.DebugLevel:
		l.Debug(text)
	case logrus.InfoLevel:
		l.Info(text)
	case logrus.WarnLevel:
		l.Warn(text)
	default:
		l.Error(text)
	}
}
