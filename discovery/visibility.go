package discovery

// Which owners' claims are in the view.

// visible says whether the owner's claims count.
func (c *core) visible(o *owner) bool {
	return o != c.self && (o.member || o.seen && (o.frozen && !o.left || c.now.Sub(o.downSince) < hideAfter))
}

// refresh brings the view in line with the owner's visibility and VTEP.
func (c *core) refresh(o *owner) {
	visible := c.visible(o)
	if !visible || o.shownVTEP != o.meta.vtep {
		c.hide(o)
	}
	if visible && !o.shown {
		c.show(o)
	}
}

// hide takes the owner's claims out of the view. What the same step puts in
// their place makes the observer see only the difference.
func (c *core) hide(o *owner) {
	if !o.shown {
		return
	}
	for _, key := range c.shared(o) {
		c.view.removeVTEP(key, o.id, o.shownVTEP)
		c.hideSet(o, key)
	}
	o.shown = false
}

func (c *core) show(o *owner) {
	o.shown, o.shownVTEP = true, o.meta.vtep
	for _, key := range c.shared(o) {
		c.view.addVTEP(key, o.id, o.shownVTEP)
		c.showSet(o, key)
	}
}

func (c *core) hideSet(o *owner, key string) {
	if s := o.set(key); s != nil && o.shown {
		for _, it := range s.live {
			c.view.removeEndpoint(key, o.id, o.shownVTEP, it.endpoint)
		}
	}
}

func (c *core) showSet(o *owner, key string) {
	if s := o.set(key); s != nil && o.shown {
		for _, it := range s.live {
			c.view.addEndpoint(key, o.id, o.shownVTEP, it.endpoint)
		}
	}
}
