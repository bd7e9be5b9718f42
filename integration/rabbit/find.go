package rabbit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// installation is where the programs of an installed RabbitMQ live.
type installation struct {
	scripts string // the directory of the real rabbitmq-server and rabbitmqctl
	epmd    string // Erlang's port mapper
	path    string // PATH for the scripts, which call erl
}

// scriptDirs are the usual homes of the real scripts. Packages also put
// wrappers on the PATH that change the user and the directory: those are of no
// use for a private node.
var scriptDirs = []string{
	"/usr/lib/rabbitmq/bin",
	"/usr/local/lib/rabbitmq/bin",
	"/usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin",
	"/usr/local/lib/rabbitmq_server-*/sbin",
	"/opt/rabbitmq*/sbin",
	"/opt/homebrew/opt/rabbitmq/sbin",
	"/usr/local/opt/rabbitmq/sbin",
}

// Available tells whether there is a broker to test with: the one that
// AMQP_URL names, or an installed rabbitmq-server that [Start] can run. When
// there is none, reason says how to get one.
func Available() (reason string, ok bool) {
	if os.Getenv("AMQP_URL") != "" {
		return "", true
	}
	if _, err := find(); err != nil {
		return err.Error() + ": install it (apt-get install rabbitmq-server, brew install rabbitmq) or set AMQP_URL to a broker", false
	}
	return "", true
}

// Required tells whether a missing broker is a failure instead of a skipped
// test: AMQP_REQUIRED is set, to something other than 0.
func Required() bool {
	v := os.Getenv("AMQP_REQUIRED")
	return v != "" && v != "0"
}

// Need skips the test when there is no broker, or fails it when one is
// [Required].
func Need(t testing.TB) {
	t.Helper()
	reason, ok := Available()
	switch {
	case ok:
	case Required():
		t.Fatalf("AMQP_REQUIRED is set, but %s", reason)
	default:
		t.Skipf("SKIPPED, nothing was tested against RabbitMQ: %s", reason)
	}
}

// find locates RabbitMQ and Erlang on this machine.
func find() (installation, error) {
	if !canRun {
		return installation{}, errors.New("private RabbitMQ nodes need a Unix system")
	}
	path := searchPath()
	scripts, err := findScripts(scriptDirs, path)
	if err != nil {
		return installation{}, err
	}
	erl := lookPath("erl", path)
	if erl == "" {
		return installation{}, errors.New("no Erlang (erl) was found on the PATH")
	}
	epmd := lookPath("epmd", path)
	if epmd == "" {
		epmd = epmdBeside(erl)
	}
	if epmd == "" {
		return installation{}, fmt.Errorf("no epmd was found on the PATH or beside %s", erl)
	}
	return installation{
		scripts: scripts,
		epmd:    epmd,
		path:    strings.Join(append([]string{scripts, filepath.Dir(erl)}, path...), string(os.PathListSeparator)),
	}, nil
}

// searchPath is the PATH and what an ordinary user's PATH often lacks.
func searchPath() []string {
	path := filepath.SplitList(os.Getenv("PATH"))
	for _, dir := range []string{"/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/opt/homebrew/sbin", "/opt/homebrew/bin"} {
		if !slices.Contains(path, dir) {
			path = append(path, dir)
		}
	}
	return path
}

// findScripts returns the directory of the real scripts, which have
// rabbitmq-env beside them: one that a pattern of usual matches, or one that
// path leads to.
func findScripts(usual, path []string) (string, error) {
	var dirs []string
	if home := os.Getenv("RABBITMQ_HOME"); home != "" {
		dirs = append(dirs, filepath.Join(home, "sbin"))
	}
	for _, pattern := range usual {
		found, _ := filepath.Glob(pattern)
		dirs = append(dirs, found...)
	}
	for _, dir := range path {
		// A wrapper is often a link into the directory of the real ones.
		if target, err := filepath.EvalSymlinks(filepath.Join(dir, "rabbitmq-server")); err == nil {
			dirs = append(dirs, filepath.Dir(target))
		}
	}
	for _, dir := range dirs {
		if executable(filepath.Join(dir, "rabbitmq-server")) && exists(filepath.Join(dir, "rabbitmq-env")) {
			return dir, nil
		}
	}
	return "", errors.New("no RabbitMQ (rabbitmq-server) was found on this machine")
}

// epmdBeside looks for the epmd of the Erlang that erl belongs to.
func epmdBeside(erl string) string {
	if target, err := filepath.EvalSymlinks(erl); err == nil {
		erl = target
	}
	found, _ := filepath.Glob(filepath.Join(filepath.Dir(filepath.Dir(erl)), "erts-*", "bin", "epmd"))
	if len(found) == 0 {
		return ""
	}
	return found[len(found)-1]
}

func lookPath(name string, path []string) string {
	for _, dir := range path {
		if file := filepath.Join(dir, name); dir != "" && executable(file) {
			return file
		}
	}
	return ""
}

func executable(file string) bool {
	_, err := exec.LookPath(file)
	return err == nil
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}
