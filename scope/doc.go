// Package scope is structured concurrency: goroutines that cannot outlive the block of code that started them.
package scope
