// Package docs holds the programs that the documentation quotes: examples, which
// run as tests. Its other tests hold the documentation to what there is.
package docs
