package rabbit

// EpmdPort is the port of the node's own epmd.
func (n *Node) EpmdPort() int { return n.ports.epmd }

// Dir is where the node keeps its files.
func (n *Node) Dir() string { return n.dir }

// Blame is what a failed start on these ports makes of its error.
func Blame(err error, held ...int) error {
	var p ports
	for i, port := range p.all() {
		*port = held[i]
	}
	return p.blame(err)
}

// ErrPortTaken is why a start is tried again.
var ErrPortTaken = errPortTaken

// OnFreePorts tries a start again.
var OnFreePorts = onFreePorts[int]

// FreePorts are those of a node that starts.
func FreePorts() (list []int, err error) {
	p, err := freePorts()
	for _, port := range p.all() {
		list = append(list, *port)
	}
	return list, err
}

// FindScripts is the search for the real scripts.
var FindScripts = findScripts

// Call is one call of the management API.
var Call = (*Node).call
