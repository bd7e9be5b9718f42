package main

// maxrssUnit is the unit of getrusage's maximum resident set size, in bytes.
const maxrssUnit = 1024
