//go:build unix

package main

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

//go:embed rabbitmqc/client.c
var cSource []byte

// buildC compiles the program for rabbitmq-c into dir, which needs a C compiler
// and the library's headers (librabbitmq-dev on Debian).
func buildC(dir string) (program string, err error) {
	compiler := os.Getenv("CC")
	if compiler == "" {
		compiler = "gcc"
	}
	if _, err := exec.LookPath(compiler); err != nil {
		return "", errors.New("there is no C compiler")
	}
	source := filepath.Join(dir, "client.c")
	if err := os.WriteFile(source, cSource, 0o600); err != nil {
		return "", err
	}
	program = filepath.Join(dir, "client")
	if out, err := exec.Command(compiler, "-O2", "-Wall", "-o", program, source, "-lrabbitmq").CombinedOutput(); err != nil {
		return "", fmt.Errorf("it needs librabbitmq-dev: %w\n%s", err, out)
	}
	return program, nil
}

// cArguments tell the C program what a Job tells the others.
func cArguments(j *Job) []string {
	host, port, _ := net.SplitHostPort(j.Addr)
	flag := map[bool]string{false: "0", true: "1"}
	return []string{
		j.Kind, host, port, j.Vhost, j.Queue, strconv.Itoa(j.Body), flag[j.Props], strconv.Itoa(j.Window),
		flag[j.NoAck], strconv.Itoa(j.Prefetch), strconv.Itoa(j.Messages), fmt.Sprint(j.Seconds),
	}
}
