// Package api holds what the module's packages export, a line for each
// declaration, in the text files beside this one. A test compares them with the
// code, so that the public API changes on purpose alone:
//
//	go test ./api -update
//
// writes them again. A change to an existing line breaks somebody's program; an
// added line is a promise.
package api
