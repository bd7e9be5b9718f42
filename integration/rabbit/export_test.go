package rabbit

// EpmdPort is the port of the node's own epmd.
func (n *Node) EpmdPort() int { return n.ports.epmd }

// Dir is where the node keeps its files.
func (n *Node) Dir() string { return n.dir }

// FindScripts is the search for the real scripts.
var FindScripts = findScripts

// Call is one call of the management API.
var Call = (*Node).call
