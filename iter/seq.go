package iter

import "iter"

// Seq is the standard library's [iter.Seq], so that a file needs only one of the two packages.
type Seq[V any] = iter.Seq[V]

// Seq2 is the standard library's [iter.Seq2].
type Seq2[K, V any] = iter.Seq2[K, V]
