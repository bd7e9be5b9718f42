package amqptest

import "strings"

// A topicRouter matches routing keys, words with dots between, against patterns in which * stands for one word
// and # for any number of words, also none.
//
// The patterns form a tree with a word at each branch. A key is matched by walking all the branches that fit at the
// same time, word by word: each node is visited at most once a word, whatever the patterns.
type topicRouter struct {
	root        topicNode
	step        uint64 // tells the nodes that this word has reached from those of earlier words
	here, there []*topicNode
}

type topicNode struct {
	children map[string]*topicNode
	bindings []*binding // whose pattern ends here
	hash     bool       // reached by #, so that it swallows words
	seen     uint64
}

func words(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

func (r *topicRouter) add(b *binding) {
	node := &r.root
	for _, word := range words(b.key) {
		next := node.children[word]
		if next == nil {
			next = &topicNode{hash: word == "#"}
			if node.children == nil {
				node.children = map[string]*topicNode{}
			}
			node.children[word] = next
		}
		node = next
	}
	node.bindings = append(node.bindings, b)
}

func (r *topicRouter) remove(b *binding) { r.root.prune(words(b.key), b) }

// prune takes the binding out and cuts the branches that it leaves bare.
func (n *topicNode) prune(rest []string, b *binding) {
	if len(rest) == 0 {
		n.bindings = without(n.bindings, b)
		return
	}
	next := n.children[rest[0]]
	if next == nil {
		return
	}
	next.prune(rest[1:], b)
	if len(next.bindings) == 0 && len(next.children) == 0 {
		delete(n.children, rest[0])
	}
}

func (r *topicRouter) match(_ *message, key string, found func(*binding)) {
	r.step++
	r.here = r.reach(r.here[:0], &r.root)
	for more := key != ""; more; {
		var word string
		word, key, more = strings.Cut(key, ".")
		r.step++
		r.there = r.there[:0]
		for _, node := range r.here {
			if node.hash {
				r.there = r.reach(r.there, node)
			}
			if word != "#" && word != "*" {
				r.there = r.reach(r.there, node.children[word])
			}
			r.there = r.reach(r.there, node.children["*"])
		}
		r.here, r.there = r.there, r.here
	}
	for _, node := range r.here {
		for _, b := range node.bindings {
			found(b)
		}
	}
}

// reach adds a node, and the # behind it that may stand for no word at all.
func (r *topicRouter) reach(set []*topicNode, node *topicNode) []*topicNode {
	for node != nil && node.seen != r.step {
		node.seen = r.step
		set = append(set, node)
		node = node.children["#"]
	}
	return set
}
