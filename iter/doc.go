// Package iter bridges goroutines that produce to `for range` loops that consume.
package iter
