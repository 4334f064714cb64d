package networks

// Defined is how a network is to be; nil: none is called so.
func (m *Manager) Defined(name string) *Definition { return m.definition(name) }
