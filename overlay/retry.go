package overlay

import (
	"time"

	"github.com/sirupsen/logrus"
)

// A state that could not be applied is tried again half a second later, then after twice as long each time, and every half
// minute in the end: a fault that passes is soon made good, and one that stays costs little.
const (
	retryFirst = 500 * time.Millisecond
	retryMax   = 30 * time.Second
	retryPace  = 100 * time.Millisecond // between looks for what is due: many that failed at about one time are one look
)

// retry is how the tries to apply a state have gone. The zero value has none behind it, and is due.
type retry struct {
	failures int
	err      error     // of the last try; nil: there is nothing to be tried
	next     time.Time // earliest next try
}

func (r *retry) due(now time.Time) bool { return !now.Before(r.next) }

// failed takes the error of a try.
func (r *retry) failed(err error, now time.Time) {
	delay := retryMax
	if r.failures < 16 {
		delay = min(retryFirst<<r.failures, retryMax)
	}
	r.failures++
	r.err, r.next = err, now.Add(delay)
}

// try brings something up, if that is due, and tells of the first failure and of the success after it.
func (r *retry) try(log logrus.FieldLogger, what string, bringUp func() error) {
	now := time.Now()
	if !r.due(now) {
		return
	}
	err := bringUp()
	switch {
	case err != nil:
		r.failed(err, now)
		if r.failures == 1 {
			log.WithError(err).Errorf("%s does not work yet: overlane tries again", what)
		}
	case r.err != nil:
		log.WithField("failures", r.failures).Infof("%s works now", what)
		*r = retry{}
	}
}

// earlier gives the earlier of two times; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
